//! Promise 8, as far as one delivery and the schedule go. The outbox is the server's part.

mod common;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use common::{Flipping, Receiver, Reply, policy};
use enlarger_egress::{Delivered, Secret, TRIES, Webhooks, next_try};

const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn sender(secrets: &[&str]) -> Webhooks {
    let secrets = secrets.iter().map(|text| Secret::parse(text).expect("a secret")).collect();
    Webhooks::with_resolver(policy(&["127.0.0.0/8"]), secrets, Arc::new(Flipping::new(&[&[]])))
}

async fn deliver(reply: Reply, sender: &Webhooks) -> (Delivered, String) {
    let mut receiver = Receiver::new("127.0.0.2", vec![reply]).await;
    let url = receiver.url("/hook");
    // The reference library refuses timestamps that are not of the present.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let body = br#"{"task_id":"1","status":"COMPLETED"}"#;
    let delivered = sender.deliver(&url, "018f2c3e-1", i64::try_from(now).expect("it fits"), body).await;
    (delivered, receiver.heard().expect("it was asked"))
}

fn verifies(secret: &str, request: &str) -> bool {
    let (head, body) = request.split_once("\r\n\r\n").expect("a request");
    let mut headers = http::HeaderMap::new();
    for line in head.lines().skip(1) {
        let (name, value) = line.split_once(": ").expect("a header");
        headers.insert(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
    }
    let webhook = match secret.strip_prefix("whsec_") {
        Some(_) => standardwebhooks::Webhook::new(secret).unwrap(),
        None => standardwebhooks::Webhook::from_bytes(secret.as_bytes().to_vec()).unwrap(),
    };
    webhook.verify(body.as_bytes(), &headers).is_ok()
}

#[tokio::test]
async fn promise_8_signatures_verify_with_the_reference_library() {
    let (delivered, request) = deliver(Reply::status("200 OK"), &sender(&[WHSEC])).await;
    assert_eq!(delivered, Delivered::Ok);
    assert!(verifies(WHSEC, &request), "{request}");
    assert!(!verifies(WHSEC, &request.replace("COMPLETED", "FAILED")), "another body does not verify");
    assert!(!verifies("another secret", &request));

    let (_, plain) = deliver(Reply::status("204 No Content"), &sender(&["correct horse battery staple"])).await;
    assert!(verifies("correct horse battery staple", &plain), "{plain}");

    // While a secret is being changed, receivers with either are content.
    let (_, both) = deliver(Reply::status("200 OK"), &sender(&[WHSEC, "the new one"])).await;
    assert!(verifies(WHSEC, &both) && verifies("the new one", &both), "{both}");
    let signature = both.lines().find(|line| line.starts_with("webhook-signature: ")).expect("signed");
    assert_eq!(signature.matches("v1,").count(), 2);
}

#[tokio::test]
async fn promise_8_only_2xx_is_delivered_and_410_stops() {
    let sender = sender(&[WHSEC]);
    assert_eq!(deliver(Reply::status("299 Fine"), &sender).await.0, Delivered::Ok);
    assert!(matches!(deliver(Reply::status("410 Gone"), &sender).await.0, Delivered::Stop { .. }));
    for line in ["302 Found\r\nlocation: /elsewhere", "404 Not Found", "500 Oops"] {
        assert!(matches!(deliver(Reply::status(line), &sender).await.0, Delivered::Retry { .. }), "{line}");
    }
    for (asked, waits) in [(120, 120), (9_999_999, 24 * 3600)] {
        let busy = deliver(Reply::status(&format!("503 Busy\r\nretry-after: {asked}")), &sender).await.0;
        let expected = Some(Duration::from_secs(waits));
        assert!(matches!(&busy, Delivered::Retry { after, .. } if *after == expected), "{busy:?}");
    }
}

#[test]
fn promise_8_eight_tries_on_schedule() {
    let schedule = [5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 36000.0];
    let all =
        |jitter| (1..).map_while(|tries| next_try(tries, jitter)).map(|wait| wait.as_secs_f64()).collect::<Vec<_>>();
    assert_eq!(all(0.5), schedule);
    assert_eq!(all(0.0), schedule.map(|wait| wait * 0.8));
    assert_eq!(all(1.0), schedule.map(|wait| wait * 1.2));
    assert_eq!(TRIES, 8, "the first try, and one after each wait");
}

#[test]
fn secrets_are_checked_and_never_shown() {
    assert!(Secret::parse("whsec_not base64").is_err());
    assert_eq!(format!("{:?}", Secret::parse("hunter2").unwrap()), "Secret(..)");
}
