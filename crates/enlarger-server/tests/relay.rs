//! Tasks that another service enlarges. It is a stand-in here, which answers as the vendor's specification has it; nobody pays.

mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use enlarger_egress::Policy;
use enlarger_image::Format;
use enlarger_pipeline::{Precision, Request, Size, Style};
use enlarger_server::Config;
use enlarger_service::{
    job::Kind,
    relay::{Budget, Order, Patience, Relay, Unrelayed},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use common::{Server, photo};

/// What the stand-in does with orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// Enlarges them.
    Well,
    /// Has no credit.
    Unpaid,
    /// Does not want them.
    Picky,
    /// A gateway in front of it has lost the answer.
    Lost,
    /// Repeats the key that it does not accept.
    Chatty,
    /// Accepts them, and never answers that.
    Hanging,
    /// Accepts them, and never finishes.
    Slow,
    /// Accepts them, and fails.
    Failing,
}

/// The stand-in.
struct Fake {
    mood: Mood,
    /// Orders as they came, with the key.
    orders: Vec<(String, String, Value)>,
    base: String,
}

type Shared = Arc<Mutex<Fake>>;

async fn fake(mood: Mood) -> Shared {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let fake = Arc::new(Mutex::new(Fake { mood, orders: Vec::new(), base }));
    let routes = Router::new()
        .route("/v1/ai/{endpoint}", post(order))
        .route("/v1/ai/{endpoint}/{task}", get(look))
        .route("/result.png", get(|| async { photo(128, 96, Format::Png) }))
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(fake.clone());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    fake
}

async fn order(
    State(fake): State<Shared>,
    Path(endpoint): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let mood = {
        let mut fake = fake.lock().unwrap();
        let key = headers["x-magnific-api-key"].to_str().unwrap().to_owned();
        fake.orders.push((endpoint, key, body));
        fake.mood
    };
    let refused = |status, message: &str| (status, Json(json!({ "message": message }))).into_response();
    match mood {
        Mood::Unpaid => refused(StatusCode::PAYMENT_REQUIRED, "Not enough credits"),
        Mood::Picky => refused(StatusCode::BAD_REQUEST, "Invalid image"),
        Mood::Lost => refused(StatusCode::BAD_GATEWAY, "upstream error"),
        Mood::Chatty => refused(StatusCode::FORBIDDEN, "the key secret is revoked"),
        Mood::Hanging => std::future::pending().await,
        _ => Json(json!({ "data": { "task_id": "046b6c7f-0b8a", "status": "CREATED", "generated": [] } }))
            .into_response(),
    }
}

async fn look(State(fake): State<Shared>, Path((_, task)): Path<(String, String)>) -> Json<Value> {
    let fake = fake.lock().unwrap();
    let generated = [format!("{}/result.png", fake.base)];
    Json(json!({ "data": match fake.mood {
        Mood::Slow => json!({ "task_id": task, "status": "IN_PROGRESS", "generated": [] }),
        Mood::Failing => json!({ "task_id": task, "status": "FAILED", "generated": [], "error": "the image shows nothing" }),
        _ => json!({ "task_id": task, "status": "COMPLETED", "generated": generated }),
    } }))
}

fn is_now(fake: &Shared, mood: Mood) {
    fake.lock().unwrap().mood = mood;
}

fn orders(fake: &Shared) -> Vec<(String, String, Value)> {
    fake.lock().unwrap().orders.clone()
}

fn relay(fake: &Shared, folder: &std::path::Path, budget: Budget) -> Relay {
    let [answer, look, result] = [1000, 10, 300].map(Duration::from_millis);
    let policy = Policy { allow: vec!["127.0.0.0/8".parse().unwrap()] };
    let (base, kinds) = (fake.lock().unwrap().base.clone(), vec![Kind::PrecisionV2]);
    Relay::new(&base, "secret", kinds, budget, Patience { answer, look, result }, folder, policy).unwrap()
}

/// By which settings an image is enlarged to a megapixel.
fn asked() -> Request {
    let style = Style::Precision(Precision { sharpen: 20, ..Precision::default() });
    Request { size: Size::Factor(3.0), style, ..Request::default() }
}

fn order_of<'a>(request: &'a Request, source: &'a [u8], owner: Option<&'a str>) -> Order<'a> {
    Order { kind: Kind::PrecisionV2, request, filter_nsfw: true, source, pixels: 1_000_000, owner }
}

const ENOUGH: Budget = Budget { daily: 100, daily_per_key: 0 };

#[tokio::test]
async fn the_same_image_with_the_same_settings_is_paid_once() {
    let (fake, dir, request) = (fake(Mood::Well).await, tempfile::tempdir().unwrap(), asked());
    let relay = relay(&fake, dir.path(), ENOUGH);
    let both = [order_of(&request, b"image", None), order_of(&request, b"image", Some("another key"))];
    let (first, second) = tokio::join!(relay.enlarge(&both[0]), relay.enlarge(&both[1]));
    assert_eq!(first.unwrap(), photo(128, 96, Format::Png));
    assert_eq!(second.unwrap(), photo(128, 96, Format::Png));
    let other = Request { size: Size::Factor(4.0), ..asked() };
    relay.enlarge(&order_of(&other, b"image", None)).await.unwrap();
    let sent = orders(&fake);
    assert_eq!(sent.len(), 2);
    assert_eq!((sent[0].0.as_str(), sent[0].1.as_str()), ("image-upscaler-precision-v2", "secret"));
    assert_eq!(
        sent[0].2,
        json!({ "image": BASE64_STANDARD.encode("image"), "scale_factor": 3, "sharpen": 20, "smart_grain": 7,
            "ultra_detail": 30, "filter_nsfw": true })
    );
}

#[tokio::test]
async fn what_may_be_spent_is_never_exceeded_whatever_breaks() {
    let (fake, dir, request) = (fake(Mood::Unpaid).await, tempfile::tempdir().unwrap(), asked());
    let relay = relay(&fake, dir.path(), Budget { daily: 4, daily_per_key: 2 });
    let images: Vec<[u8; 1]> = (0..9).map(|n| [n]).collect();
    let ask = async |image: usize, owner| relay.enlarge(&order_of(&request, &images[image], owner)).await;
    let (mine, yours) = (Some("mine"), Some("yours"));
    // What is refused costs nothing.
    for _ in 0..5 {
        let Err(Unrelayed::Away { host, why }) = ask(0, mine).await else { panic!("unpaid") };
        assert_eq!(host, "127.0.0.1");
        assert!(why.starts_with("wants to be paid first") && why.ends_with("(402: Not enough credits)"), "{why}");
    }
    is_now(&fake, Mood::Picky);
    let Err(Unrelayed::Refused { why, .. }) = ask(0, mine).await else { panic!("refused") };
    assert_eq!(why, "Invalid image");
    is_now(&fake, Mood::Chatty);
    let Err(Unrelayed::Away { why, .. }) = ask(0, mine).await else { panic!("refused") };
    assert!(why.ends_with("(403: the key *** is revoked)"), "{why}");
    // Whether this was accepted nobody knows, so it counts.
    is_now(&fake, Mood::Lost);
    let Err(Unrelayed::Away { why, .. }) = ask(5, Some("theirs")).await else { panic!("no answer") };
    assert!(why.starts_with("cannot do it now"), "{why}");
    is_now(&fake, Mood::Hanging);
    let Err(Unrelayed::Away { why, .. }) = ask(0, mine).await else { panic!("no answer") };
    assert_eq!(why, "gave no answer: it did not answer within 1 seconds");
    is_now(&fake, Mood::Failing);
    let Err(Unrelayed::Refused { why, .. }) = ask(1, mine).await else { panic!("failed") };
    assert_eq!(why, "the image shows nothing");
    is_now(&fake, Mood::Well);
    let before = orders(&fake).len();
    let Err(Unrelayed::Spent { whose, limit, left, .. }) = ask(2, mine).await else { panic!("over budget") };
    assert_eq!((whose, limit, left), ("this API key", 2, 0));
    ask(3, yours).await.unwrap();
    let Err(Unrelayed::Spent { whose, limit, left, .. }) = ask(4, yours).await else { panic!("over budget") };
    assert_eq!((whose, limit, left), ("this server", 4, 0));
    assert_eq!(orders(&fake).len(), before + 1, "what is over budget is not sent");
    ask(3, mine).await.expect("what is here costs nothing");
}

#[tokio::test]
async fn an_order_that_was_accepted_is_asked_after_and_not_ordered_again() {
    let (fake, dir, request) = (fake(Mood::Slow).await, tempfile::tempdir().unwrap(), asked());
    let one = Budget { daily: 1, daily_per_key: 0 };
    let late = relay(&fake, dir.path(), one).enlarge(&order_of(&request, b"image", None)).await;
    let Err(Unrelayed::Away { why, .. }) = late else { panic!("it is slow") };
    assert_eq!(why, "has not finished within 0.3 s");
    is_now(&fake, Mood::Well);
    // As another process would after a crash.
    relay(&fake, dir.path(), one).enlarge(&order_of(&request, b"image", None)).await.unwrap();
    assert_eq!(orders(&fake).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_get_what_the_service_made_and_learn_why_if_there_is_nothing() {
    let fake = fake(Mood::Unpaid).await;
    let dir = tempfile::tempdir().unwrap();
    let relay_key_file = dir.path().join("key");
    std::fs::write(&relay_key_file, "secret\n").unwrap();
    let relay = fake.lock().unwrap().base.clone();
    let server = Server::start(Config {
        relay,
        relay_key_file,
        relay_daily_megapixels: 1,
        allow_net: vec!["127.0.0.0/8".parse().unwrap()],
        ..Config::default()
    })
    .await;
    let Server { base, http, .. } = &server;
    let call = async |request: reqwest::RequestBuilder| request.send().await.unwrap().json::<Value>().await.unwrap();
    let submit = async |image: &[u8], path: &str| {
        let body = json!({ "image": BASE64_STANDARD.encode(image), "creativity": 3, "prompt": "a brush" });
        let answer = call(http.post(format!("{base}/v1/ai/{path}")).json(&body)).await;
        answer["data"]["task_id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    };
    let until = async |id: &str, what: fn(&Value) -> bool| loop {
        let task = call(http.get(format!("{base}/api/tasks/{id}"))).await;
        if what(&task) {
            break task;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let source = photo(64, 48, Format::Png);
    let id = submit(&source, "image-upscaler").await;
    let waits = until(&id, |task| task["error"].is_object()).await;
    assert_eq!((&waits["status"], &waits["error"]["code"]), (&json!("CREATED"), &json!("relay")), "{waits}");
    assert!(waits["error"]["message"].as_str().unwrap().contains("wants to be paid first"), "{waits}");
    is_now(&fake, Mood::Well);
    let done = until(&id, |task| task["status"] == "COMPLETED").await;
    assert_eq!((&done["result"]["width"], &done["result"]["height"]), (&json!(128), &json!(96)), "{done}");
    assert!(done["invention"]["share"].as_f64().is_some(), "{done}");
    assert!(done.to_string().contains("enlarged by 127.0.0.1"), "{done}");
    let url = done["result"]["url"].as_str().unwrap();
    assert_eq!(http.get(url).send().await.unwrap().bytes().await.unwrap(), photo(128, 96, Format::Png));
    let sent = orders(&fake).pop().unwrap();
    assert_eq!((sent.0.as_str(), &sent.2["scale_factor"]), ("image-upscaler", &json!("2x")));
    assert_eq!((&sent.2["creativity"], &sent.2["prompt"]), (&json!(3), &json!("a brush")));

    let over = submit(&photo(32, 48, Format::Png), "image-upscaler").await;
    let failed = until(&over, |task| task["status"] == "FAILED").await;
    let message = failed["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("this server may spend at 127.0.0.1 today: 1 megapixels of results, of which 0 are left"),
        "{failed}"
    );
    // Others are enlarged here.
    let own = submit(&source, "image-upscaler-precision-v2").await;
    until(&own, |task| task["status"] == "COMPLETED").await;
    assert_eq!(orders(&fake).len(), 2);
    server.stop().await;
}
