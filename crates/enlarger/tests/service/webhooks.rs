//! Webhooks: what is sent, how it is signed, and that none is lost or holds up another.

use serde_json::json;
use standardwebhooks::Webhook;

use crate::harness::*;

on_both! {
    promise_8_each_change_is_told_once_signed_and_in_order,
    promise_8_a_refused_delivery_is_tried_again_with_the_same_id_after_a_kill_too,
    promise_8_an_older_status_never_comes_after_a_newer_one,
    promise_8_a_receiver_that_hangs_delays_nobody_else,
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const LOCAL: [&str; 4] = ["--allow-net", "127.0.0.0/8", "--webhook-secret", SECRET];

fn verify(received: &Received) {
    let mut headers = signed_headers(received);
    let webhook = Webhook::new(SECRET).expect("a secret");
    webhook.verify(&received.body, &headers).expect("signed as Standard Webhooks has it");
    headers.insert("webhook-id", "other".parse().unwrap());
    assert!(webhook.verify(&received.body, &headers).is_err());
}

fn promise_8_each_change_is_told_once_signed_and_in_order() {
    let receiver = Receiver::start(|_| 200);
    let server = Server::start(&LOCAL);
    let id = server.submit(CREATIVE, &json!({ "image": base64(&photo(32, 24)), "webhook_url": receiver.url }));
    server.wait_done(&id);
    let got = receiver.wait(2);
    got.iter().for_each(verify);
    let url = server.get(&format!("{CREATIVE}/{id}")).json()["data"]["generated"][0].clone();
    assert_eq!(got[0].json(), json!({ "task_id": id, "status": "IN_PROGRESS", "generated": [] }));
    assert_eq!(got[1].json()["status"], "COMPLETED");
    assert_eq!(got[1].json()["task_id"], id);
    let told = got[1].json()["generated"][0].as_str().unwrap().to_owned();
    assert_eq!(told.split('?').next(), url.as_str().unwrap().split('?').next());
    assert_eq!(server.get(&told).status, 200);
    assert_ne!(got[0].header("webhook-id"), got[1].header("webhook-id"));
    // A picture that cannot be decoded.
    let mut torn = photo(32, 24);
    let middle = torn.len() / 2;
    torn[middle..middle + 8].fill(0);
    let id = server.submit(CREATIVE, &json!({ "image": base64(&torn), "webhook_url": receiver.url }));
    server.wait(&id, &["FAILED"]);
    let got = receiver.wait(4);
    assert_eq!((got[3].json()["status"].clone(), got[3].json()["generated"].clone()), (json!("FAILED"), json!([])));
    assert!(got[3].json()["message"].is_string());
}

fn promise_8_a_refused_delivery_is_tried_again_with_the_same_id_after_a_kill_too() {
    // The second is the last status of its task.
    let receiver = Receiver::start(|n| if n == 1 { 500 } else { 200 });
    let mut server = Server::start(&LOCAL);
    let id = server.submit(CREATIVE, &json!({ "image": base64(&photo(32, 24)), "webhook_url": receiver.url }));
    server.wait_done(&id);
    receiver.wait(2);
    // Time for the refusal to be written down, or not: both are survived.
    server.kill();
    server.start_again();
    let got = receiver.wait(3);
    got.iter().for_each(verify);
    assert_eq!(got[1].header("webhook-id"), got[2].header("webhook-id"));
    assert_eq!(got[1].body, got[2].body);
}

fn promise_8_an_older_status_never_comes_after_a_newer_one() {
    // The first is refused, and would be tried again after five seconds.
    let receiver = Receiver::start(|n| if n == 0 { 500 } else { 200 });
    let server = Server::start(&LOCAL);
    let image = base64(&photo(32, 24));
    let id = server.submit(CREATIVE, &json!({ "image": image, "webhook_url": receiver.url }));
    server.wait_done(&id);
    let patience = std::time::Instant::now() + PATIENCE;
    while server.get("/api/status").json()["queue"]["webhooks_pending"] != 0 {
        assert!(std::time::Instant::now() < patience, "nothing is left to be sent: {}", server.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // Told again only if the task took as long as that.
    let told: Vec<_> = receiver.got().iter().map(|got| got.json()["status"].clone()).collect();
    let (last, before) = told.split_last().expect("something was told");
    assert!(!before.is_empty() && before.iter().all(|status| status == "IN_PROGRESS"), "{told:?}");
    assert_eq!(last, "COMPLETED");
}

fn promise_8_a_receiver_that_hangs_delays_nobody_else() {
    let hanging = Receiver::start(|_| 0);
    let good = Receiver::start(|_| 200);
    let server = Server::start(&LOCAL);
    let image = base64(&photo(32, 24));
    for _ in 0..4 {
        server.submit(CREATIVE, &json!({ "image": image, "webhook_url": hanging.url }));
    }
    hanging.wait(4);
    server.submit(CREATIVE, &json!({ "image": image, "webhook_url": good.url }));
    // The hanging ones are given up after 15 s; these do not wait for that.
    let got = good.wait(2);
    assert_eq!(got[1].json()["status"], "COMPLETED");
    assert!(server.get("/api/status").json()["queue"]["webhooks_pending"].as_u64() >= Some(4));
}
