//! Several machines as one service: what they must have in common, what each can run, and how they are looked after.

use std::process::Output;

use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    harness::*,
    moto::{BUCKET, Moto},
    proxy::{Mood, Proxy},
};

const SECRET: &str = "a secret that all machines have in common";

/// What a server says that does not start.
fn refused(args: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let output = binary().args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(dir.path()).args(args).output();
    let output = output.expect("the binary runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("hint: "), "{args:?}: {told}");
    assert!(!told.contains(SECRET) && !told.contains("sesame"), "{told}");
    told
}

fn admin(server: &Server, args: &[&str]) -> Output {
    binary().args(["admin", "--data-dir"]).arg(server.dir()).args(args).output().expect("the binary runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn until(server: &Server, what: &str, mut done: impl FnMut() -> bool) {
    let patience = std::time::Instant::now() + PATIENCE;
    while !done() {
        assert!(std::time::Instant::now() < patience, "{what}: {}", server.log());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn machines_that_do_not_share_storage_or_secret_are_refused_when_they_start() {
    let cluster = Cluster::shared();
    let moto = Moto::start();
    let storage = moto.storage();

    // Files in a folder: only processes of the same machine have them.
    let local = cluster.database();
    let first = Server::start(&["--database", &local]);
    let told = refused(&["--database", &local]);
    assert!(told.contains("are in the folder") && told.contains("set `storage`"), "{told}");
    let told = refused(&["--database", &local, "--storage", &storage]);
    assert!(told.contains("are in the folder") && told.contains(&format!("not in s3://{BUCKET}")), "{told}");
    drop(first.another(&["--database", &local, "--role", "worker"]));
    drop(first);

    // Files in a bucket, of which each service needs a part of its own.
    let shared = cluster.database();
    let all = ["--database", &shared, "--storage", &storage, "--signing-secret", SECRET];
    let first = Server::start(&all);
    let elsewhere = storage.replace("/some/where", "/else/where");
    assert_ne!(elsewhere, storage);
    let told = refused(&["--database", &shared, "--storage", &elsewhere, "--signing-secret", SECRET]);
    assert!(told.contains(&format!("are in s3://{BUCKET}/some/where")), "{told}");
    let told = refused(&["--database", &shared, "--signing-secret", SECRET]);
    assert!(told.contains("are in s3://") && told.contains("the same `storage`"), "{told}");
    let told = refused(&["--storage", &storage, "--signing-secret", SECRET]);
    assert!(told.contains("belongs to another database"), "{told}");

    // Without the same secret, neither would serve the URLs of the other.
    let other = "another secret, just as long as that one is";
    for args in [&all[..4], &[&all[..4], &["--signing-secret", other]].concat()[..]] {
        let told = refused(args);
        assert!(told.contains("signs URLs with another secret") && told.contains("`signing_secret`"), "{told}");
    }

    // With all in common, every process serves the URLs of the others.
    let second = Server::start(&all);
    let id = first.submit("/api/tasks", &quick());
    let task = second.wait_done(&id);
    let url = task["result"]["url"].as_str().unwrap();
    let path = &url[url.find("/files/").unwrap()..];
    assert!(first.get(path).status == 200 && first.get(path).bytes == second.get(path).bytes);
    assert_eq!(first.get("/api/status").json()["nodes"].as_array().map(Vec::len), Some(2));

    // To change it, all are stopped first.
    let [mut first, mut second] = [first, second];
    assert!(first.terminate().success() && second.terminate().success());
    drop(Server::start(&[&all[..4], &["--signing-secret", other]].concat()));
}

#[test]
fn a_worker_takes_only_what_it_can_run_and_what_none_can_run_says_so() {
    let cluster = Cluster::shared();
    let moto = Moto::start();
    let (database, storage) = (cluster.database(), moto.storage());
    let all = ["--database", &database, "--storage", &storage, "--signing-secret", SECRET, "--role"];
    let api = Server::start(&[&all[..], &["api"]].concat());
    let task = |id: &str| api.task(id);
    let id = api.submit("/api/tasks", &quick());
    assert_eq!(task(&id)["held_up"], "no worker is running");
    let worker = Server::start(&[&all[..], &["worker"]].concat());
    assert_eq!(api.wait_done(&id)["held_up"], Value::Null);

    // The API alone has it.
    let weights = std::fs::read(root().join("models/weights/animevideo-v3.safetensors")).expect("the model is there");
    let added = api.send("PUT", "/api/models/mine.safetensors", &[], &weights);
    assert_eq!(added.status, 201, "{}", added.text());
    let mut mine = quick();
    mine["request"]["model"] = json!("mine");
    let needy = api.submit("/api/tasks", &mine);
    let other = api.submit("/api/tasks", &quick());
    api.wait_done(&other);
    // What is known of other processes is a moment old.
    let why = || task(&needy)["held_up"].as_str().unwrap_or_default().to_owned();
    until(&api, "it does not say what is missing", || why().starts_with("no running worker has model mine sha256:"));
    assert_eq!(task(&needy)["status"], "CREATED", "it was not taken");
    let listed = api.get("/api/tasks?status=CREATED").json();
    assert_eq!(listed["tasks"][0]["held_up"], why());

    // Another worker with it.
    let equipped = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(api.dir().join("models")).unwrap().flatten() {
        std::fs::create_dir_all(equipped.path().join("models")).unwrap();
        std::fs::copy(entry.path(), equipped.path().join("models").join(entry.file_name())).unwrap();
    }
    let able = Server::start_in(equipped, &[&all[..], &["worker"]].concat());
    api.wait_done(&needy);
    drop((worker, able));
}

#[test]
fn an_operator_drains_queues_again_looks_and_prunes() {
    let server = Server::start(&[]);
    let stats = || -> Value { serde_json::from_slice(&admin(&server, &["stats", "--json"]).stdout).expect("JSON") };
    let nodes = stats()["nodes"].clone();
    let node = nodes[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!((nodes.as_array().map(Vec::len), &nodes[0]["about"]["role"]), (Some(1), &json!("all")));
    assert!(said(&admin(&server, &["stats"])).contains(&node));

    let unknown = admin(&server, &["drain", "zzzz"]);
    assert!(!unknown.status.success() && said(&unknown).contains(&format!("running: {node}")), "{unknown:?}");
    assert!(admin(&server, &["drain", &node]).status.success());
    until(&server, "it does not hear of it", || server.log().contains("draining=true"));
    let id = server.submit("/api/tasks", &quick());
    until(&server, "the task does not say so", || {
        server.task(&id)["held_up"] == "every worker that can run it is draining"
    });
    assert!(admin(&server, &["drain", &node, "--undo"]).status.success());
    server.wait_done(&id);

    // A picture that cannot be fetched fails, and fails again.
    let lost = json!({ "image": "https://no-such-host.invalid/a.png", "request": { "model": "animevideo-v3" } });
    let failed = server.submit("/api/tasks", &lost);
    server.wait(&failed, &["FAILED"]);
    let again = admin(&server, &["requeue", "--all-failed"]);
    assert!(said(&again).contains("1 jobs queued again, 0 skipped"), "{}", said(&again));
    server.wait(&failed, &["FAILED"]);
    let done = admin(&server, &["requeue", &id]);
    assert!(!done.status.success() && said(&done).contains("it is COMPLETED, not failed"), "{}", said(&done));

    let url = server.task(&id)["result"]["url"].as_str().expect("a result").to_owned();
    assert!(said(&admin(&server, &["prune", "--days", "1"])).starts_with("0 jobs removed"));
    assert_eq!(server.get(&url).status, 200);
    assert!(said(&admin(&server, &["prune", "--days", "0"])).starts_with("2 jobs removed, files of 2 deleted"));
    assert_eq!((server.get(&url).status, server.get("/api/tasks").json()["total"].as_u64()), (404, Some(0)));
}

/// The client learns where its result will be, though nobody can look for it at the moment.
#[test]
fn a_waiting_client_gets_the_id_of_its_task_when_the_database_goes_away() {
    let cluster = Cluster::shared();
    let database = cluster.database();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let proxy = runtime.block_on(Proxy::before(cluster.port, Mood::Pass));
    let through = database.replace(&format!(":{}/", cluster.port), &format!(":{}/", proxy.port));
    let server = Server::start(&["--database", &through]);
    let body = json!({ "image": base64(&sample("stream.jpg")), "upscaling_resize": 8, "upscaler_1": "x4plus" });
    let (answer, id) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| server.post("/sdapi/v1/extra-single-image", &body));
        let mut id = String::new();
        until(&server, "it does not run", || {
            let tasks = server.get("/api/tasks?status=IN_PROGRESS").json();
            id = tasks["tasks"][0]["task_id"].as_str().unwrap_or_default().to_owned();
            !id.is_empty()
        });
        proxy.turn(Mood::Closed);
        let answer = waiting.join().expect("it is answered");
        proxy.turn(Mood::Pass);
        (answer, id)
    });
    assert_eq!((answer.status, answer.header("retry-after").is_empty()), (503, false), "{}", answer.text());
    assert!(answer.text().contains(&format!("GET /api/tasks/{id} will have it")), "{}", answer.text());
    until(&server, "it does not recover", || server.get("/readyz").status == 200);
    server.send("POST", &format!("/api/tasks/{id}/cancel"), &[], b"");
}
