//! Input from people who mean harm, or have none of the care that a server needs.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::json;

use crate::harness::*;

on_both! {
    promise_10_bombs_are_refused_before_they_cost_anything,
    promise_12_what_is_too_large_is_refused_with_the_limit,
    promise_13_no_request_makes_us_call_an_address_that_is_not_public,
}

/// A chunk of a PNG (ISO 15948, section 5.3).
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut body = kind.to_vec();
    body.extend_from_slice(data);
    let mut crc = u32::MAX;
    for byte in &body {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    [&u32::try_from(data.len()).unwrap().to_be_bytes()[..], &body, &(!crc).to_be_bytes()].concat()
}

/// A PNG whose header says `width` x `height`, with a few bytes of data.
fn png(width: u32, height: u32, before: &[u8]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    // One empty zlib stream (RFC 1950).
    let data = [0x78, 0x9c, 3, 0, 0, 0, 0, 1];
    [b"\x89PNG\r\n\x1a\n", &chunk(b"IHDR", &header)[..], before, &chunk(b"IDAT", &data), &chunk(b"IEND", &[])].concat()
}

/// Megabytes of memory that a process has used at most.
fn peak_mb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

fn promise_10_bombs_are_refused_before_they_cost_anything() {
    let server = Server::start(&["--role", "api"]);
    // Let it settle, with one good picture gone in.
    server.submit("/api/tasks", &quick());
    let idle = peak_mb(server.pid());
    // 30,000 frames of one pixel (GIF89a).
    let mut gif = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff".to_vec();
    for _ in 0..30_000 {
        gif.extend_from_slice(b"\x21\xf9\x04\0\x0a\0\0\0\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0");
    }
    gif.push(0x3b);
    // A profile that inflates to far more than it is: stored blocks are not needed, a run of zeros is.
    let zeros = [b"icc\0\0".to_vec(), deflated_zeros(600 << 20)].concat();
    let bombs = [
        ("50,000 x 50,000 pixels", png(50_000, 50_000, &[])),
        ("a profile of 600 MB", png(16, 16, &chunk(b"iCCP", &zeros))),
        ("a TIFF that lies about its size", tiff(60_000, 60_000)),
        ("cut off", photo(64, 48)[..700].to_vec()),
        ("nothing at all", png(0, 0, &[])),
    ];
    for (what, bytes) in &bombs {
        let answer = server.post(CREATIVE, &json!({ "image": base64(bytes) }));
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
        assert_eq!(answer.json()["invalid_params"][0]["name"], "image", "{what}");
    }
    let gif = server.post(CREATIVE, &json!({ "image": base64(&gif) }));
    assert!(
        gif.status == 400 || gif.status == 200,
        "many frames are no harm if only the first is read: {}",
        gif.text()
    );
    let used = peak_mb(server.pid()) - idle;
    assert!(used < 64, "{used} MB over idle");
}

/// A zlib stream of so many zeros, about a thousandth as long (RFC 1951: fixed codes, matches of 258 at distance 1).
fn deflated_zeros(bytes: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put(1, 1);
    bits.put(1, 2);
    // Literal 0 is 00110000, most significant bit first.
    bits.put(0b0000_1100, 8);
    for _ in 0..bytes / 258 {
        // Length 258 is code 285 = 11000101, distance 1 is 00000.
        bits.put(0b1010_0011, 8);
        bits.put(0, 5);
    }
    bits.put(0, 7);
    [vec![0x78, 0x9c], bits.bytes(), vec![0, 0, 0, 0]].concat()
}

#[derive(Default)]
struct Bits {
    done: Vec<u8>,
    held: u64,
    count: u32,
}

impl Bits {
    fn put(&mut self, value: u64, count: u32) {
        self.held |= value << self.count;
        self.count += count;
        while self.count >= 8 {
            self.done.push(self.held as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    fn bytes(mut self) -> Vec<u8> {
        self.put(0, 7);
        self.done
    }
}

/// A little-endian TIFF whose one strip is not there.
fn tiff(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"II*\0\x08\0\0\0\x08\0".to_vec();
    let entries: [(u16, u32); 8] =
        [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 200), (277, 1), (279, u32::MAX)];
    for (tag, value) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&[4, 0, 1, 0, 0, 0]);
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

fn promise_12_what_is_too_large_is_refused_with_the_limit() {
    let server = Server::start(&[]);
    let body = vec![b' '; (128 << 20) + 1];
    let answer = server.send("POST", CREATIVE, &[], &body);
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert!(answer.json()["message"].as_str().unwrap().contains("128 MB"));
    let refused = |path: &str, image: &[u8], more: serde_json::Value, says: &str| {
        let mut body = more;
        body["image"] = base64(image).into();
        let answer = server.post(path, &body);
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.text().contains(says), "{says}: {}", answer.text());
    };
    refused(CREATIVE, &png(9000, 8000, &[]), json!({}), "64000000");
    refused(CREATIVE, &photo(2000, 1600), json!({ "scale_factor": "4x" }), "25.3 million pixels");
    refused(V2, &photo(4000, 100), json!({ "scale_factor": 3 }), "10060");
    assert_eq!(server.get("/api/tasks").json()["total"], 0);
    let unfinished = server.files_in("files/tmp");
    assert!(unfinished.iter().all(|path| path.ends_with("lock")), "nothing is left lying about: {unfinished:?}");
}

fn promise_13_no_request_makes_us_call_an_address_that_is_not_public() {
    let trap = Receiver::start(|_| 200);
    let port = trap.url.split(':').nth(2).unwrap().split('/').next().unwrap().to_owned();
    let server = Server::start(&[]);
    let hosts = [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "localhost",
        "LOCALHOST.",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
        "10.0.0.1",
        "100.64.0.1",
        "user@127.0.0.1",
    ];
    let image = base64(&photo(32, 24));
    for host in hosts {
        for body in [
            json!({ "image": format!("http://{host}:{port}/a.png") }),
            json!({ "image": image, "webhook_url": format!("http://{host}:{port}/hook") }),
        ] {
            let answer = server.post(CREATIVE, &body);
            // A name is only looked up later.
            if answer.status == 200 {
                let id = answer.json()["data"]["task_id"].as_str().unwrap().to_owned();
                server.wait(&id, &["FAILED", "COMPLETED"]);
            } else {
                assert_eq!(answer.status, 400, "{host}: {}", answer.text());
            }
        }
    }
    for url in ["file:///etc/passwd", "gopher://127.0.0.1/", "http://", "https://:80/"] {
        assert_eq!(server.post(CREATIVE, &json!({ "image": image, "webhook_url": url })).status, 400, "{url}");
    }
    assert!(trap.got().is_empty(), "{:?}", trap.got());
}

#[test]
fn malformed_bodies_are_answered_and_nothing_is_kept() {
    let server = Server::start(&[]);
    let image = base64(&photo(32, 24));
    let bodies = [
        String::new(),
        "{".into(),
        "[]".into(),
        "null".into(),
        "\"x\"".into(),
        "{\"image\":".into(),
        "{}".into(),
        json!({ "image": 5 }).to_string(),
        json!({ "image": "" }).to_string(),
        json!({ "image": "data:image/png,raw" }).to_string(),
        json!({ "image": format!("{}%", &image[1..]) }).to_string(),
        json!({ "image": "aGVsbG8=" }).to_string(),
        json!({ "image": image, "creativity": 1e300 }).to_string(),
        json!({ "image": image, "scale_factor": [2] }).to_string(),
        format!("{{\"image\":\"{image}\",\"prompt\":\"{}\"}}", "p".repeat(10_001)),
        "{\"a\":".repeat(5000),
    ];
    for body in &bodies {
        let answer = server.send("POST", CREATIVE, &[], body.as_bytes());
        assert_eq!(answer.status, 400, "{}: {}", &body[..body.len().min(60)], answer.text());
        let error = answer.json();
        assert!(error["error"].is_string() && error["message"].is_string() && error["problem"]["message"].is_string());
    }
    let answer = server.send("POST", CREATIVE, &[], b"{\"image\": \"\xff\xfe\"}");
    assert_eq!(answer.status, 400);
    assert_eq!(server.send("DELETE", CREATIVE, &[], &[]).status, 405);
    assert_eq!(server.get("/api/tasks").json()["total"], 0);
    for path in ["/api/tasks", "/api/preview"] {
        let request =
            json!({ "look": { "mode": "creative", "hdr": 99 }, "crop": { "x": 0, "y": 0, "width": 8, "height": 8 } });
        let answer = server.post(path, &json!({ "image": image, "request": request }));
        assert_eq!(answer.json()["invalid_params"][0]["name"], "request.look.hdr");
        assert_eq!(server.post(path, &json!({ "image": image, "request": { "size": "big" } })).status, 400);
    }
}

#[test]
fn a_client_that_sends_nothing_for_long_is_hung_up_on() {
    let server = Server::start(&[]);
    let answer = |head: &str, body: &[u8]| {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut said = String::new();
        let _ = stream.read_to_string(&mut said);
        said
    };
    std::thread::scope(|scope| {
        // Neither ever finishes what it has begun.
        let head = scope.spawn(|| answer("POST /v1/ai/image-upscaler HTTP/1.1\r\nhost: localhost\r\n", b""));
        let body = "POST /v1/ai/image-upscaler HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 1000\r\n\r\n";
        let body = scope.spawn(|| answer(body, b"{\"image\":"));
        assert_eq!(head.join().unwrap(), "", "closed without a word");
        let said = body.join().unwrap();
        assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    });
    assert_eq!(server.get("/health").status, 200);
}
