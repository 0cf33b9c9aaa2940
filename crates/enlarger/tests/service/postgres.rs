//! Several servers on one PostgreSQL database.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use serde_json::json;

use crate::{cluster::Cluster, harness::*};

#[test]
fn promise_8_a_task_that_one_process_accepts_and_another_runs_is_told_once() {
    let cluster = Cluster::shared();
    let database = cluster.database();
    let receiver = Receiver::start(|_| 200);
    let settings = ["--database", &database, "--allow-net", "127.0.0.0/8", "--role"];
    let api = Server::start(&[&settings[..], &["api"]].concat());
    // Two, so that they compete for tasks and webhooks.
    let workers: Vec<_> = (0..2).map(|_| api.another(&[&settings[..], &["worker"]].concat())).collect();
    let mut ids = Vec::new();
    for _ in 0..4 {
        let id = api.submit(CREATIVE, &json!({ "image": base64(&photo(32, 24)), "webhook_url": receiver.url }));
        ids.push(id);
    }
    for id in &ids {
        let task = api.wait_done(id);
        assert_eq!(png_size(&api.get(task["result"]["url"].as_str().unwrap()).bytes), (64, 48));
    }
    let mut told: Vec<_> = receiver.wait(8).iter().map(|got| got.json()).collect();
    let patience = std::time::Instant::now() + PATIENCE;
    while api.get("/api/status").json()["queue"]["webhooks_pending"] != 0 {
        assert!(std::time::Instant::now() < patience, "nothing is left to be sent: {}", api.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(receiver.got().len(), 8);
    for id in &ids {
        let of: Vec<_> =
            told.extract_if(.., |body| body["task_id"] == id.as_str()).map(|body| body["status"].clone()).collect();
        assert_eq!(of, ["IN_PROGRESS", "COMPLETED"]);
    }
    assert!(api.files_in("").iter().all(|file| !file.ends_with("tasks.sqlite")), "the one database is all");
    let said = workers.iter().chain([&api]).map(Server::log).collect::<String>();
    assert!(!said.contains(database.split_once("://").unwrap().1), "the password is not logged");
}

#[test]
fn promise_16_a_server_waits_for_its_database_and_says_so() {
    let cluster = Cluster::shared();
    // Nobody listens there yet.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let own = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = own.local_addr().expect("an address");
    drop(own);
    let folder = tempfile::tempdir().expect("a folder");
    let database = cluster.database();
    let through = database.replace(&format!(":{}/", cluster.port), &format!(":{port}/"));
    let mut server = binary()
        .args(["serve", "--listen", &address.to_string(), "--database", &through, "--data-dir"])
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut said = BufReader::new(server.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
    let waiting = said.find(|line| line.contains("not ready")).expect("it says what it waits for");
    assert!(waiting.contains(&format!("127.0.0.1:{port}")) && waiting.contains("hint: "), "{waiting}");
    assert!(!waiting.contains("sesame"), "{waiting}");
    let status = |path: &str| {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        agent.get(format!("http://{address}{path}")).call().map(|answer| answer.status().as_u16())
    };
    assert_eq!((status("/livez").unwrap(), status("/readyz").unwrap(), status("/api/tasks").unwrap()), (200, 503, 503));

    // Now somebody does.
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is still free");
    let server_port = cluster.port;
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = std::net::TcpStream::connect(("127.0.0.1", server_port)).expect("PostgreSQL runs");
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            let (mut from, mut to) = (server, client);
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        }
    });
    said.find(|line| line.contains("Open http://")).expect("it is ready");
    assert_eq!(status("/readyz").unwrap(), 200);
    server.kill().expect("it can be killed");
    server.wait().expect("it ends");
}
