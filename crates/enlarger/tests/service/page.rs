//! What the page asks of the server: views of files that browsers cannot show, and models.

use enlarger_image::{Channels, EncodeOptions, Format, Limits, Picture, Samples, decode, encode};
use serde_json::{Value, json};

use crate::harness::*;

/// A slope from left to right in red and from top to bottom in the other colours.
fn slope(width: u32, height: u32, channels: Channels, bits: u8) -> Picture {
    let value = |x: u32, y: u32, c: usize| match c {
        0 => f64::from(x) / f64::from(width - 1),
        3 => f64::from(u8::from(x > y)),
        _ => f64::from(y) / f64::from(height - 1),
    };
    let (columns, count) = (0..width, channels.count());
    let all = (0..height).flat_map(|y| {
        columns.clone().flat_map(move |x| {
            (0..count)
                .map(move |c| if c + 1 == count && channels.has_alpha() { value(x, y, 3) } else { value(x, y, c) })
        })
    });
    let samples = match bits {
        8 => Samples::U8(all.map(|v| (v * 255.0).round() as u8).collect()),
        _ => Samples::U16(all.map(|v| (v * 65535.0).round() as u16).collect()),
    };
    Picture { width, height, channels, samples, metadata: Default::default() }
}

fn file(picture: &Picture, format: Format) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    encode(picture, &EncodeOptions { format, ..EncodeOptions::default() }, &mut file).expect("it can be written");
    file.into_inner()
}

fn bytes_of(picture: &Picture) -> Vec<u8> {
    match &picture.samples {
        Samples::U8(samples) => samples.clone(),
        Samples::U16(samples) => samples.iter().map(|s| (f64::from(*s) / 257.0).round() as u8).collect(),
    }
}

/// Uploads a file and returns its address.
fn upload(server: &Server, name: &str, bytes: &[u8]) -> String {
    let slot = server.post("/customers/storage", &json!({ "file_name": name })).json();
    let [to, from] = ["upload_url", "download_url"].map(|name| slot[name].as_str().unwrap().to_owned());
    assert_eq!(server.send("PUT", &to, &[], bytes).status, 200);
    from
}

#[test]
fn what_browsers_cannot_show_is_served_as_a_png_of_the_same_pixels() {
    let server = Server::start(&[]);
    for (channels, bits) in [(Channels::Rgb, 8), (Channels::Rgba, 16), (Channels::Gray, 16)] {
        let picture = slope(40, 24, channels, bits);
        let address = upload(&server, "a.tif", &file(&picture, Format::Tiff));
        let view = |url: &str| {
            let answer = server.get(&format!("{url}&view=1"));
            assert_eq!((answer.status, answer.header("content-type")), (200, "image/png"), "{}", answer.text());
            let size = ["x-image-width", "x-image-height"].map(|name| answer.header(name).parse::<u32>().unwrap());
            let shown = decode(&answer.bytes, &Limits::default()).expect("a PNG").picture;
            assert_eq!(shown.samples.bits(), 8);
            (size, shown)
        };
        let (size, shown) = view(&address);
        assert_eq!((size, bytes_of(&shown)), ([40, 24], bytes_of(&picture)), "an upload, {channels:?}, {bits} bits");

        let request = json!({ "size": { "factor": 2.0 }, "model": "animevideo-v3" });
        let task = json!({ "image": address, "name": "a.tif", "request": request, "output": { "format": "tiff" } });
        let done = server.wait_done(&server.submit("/api/tasks", &task));
        let url = |part: &str| done[part]["url"].as_str().unwrap().to_owned();
        assert_eq!(bytes_of(&view(&url("source")).1), bytes_of(&picture), "a source, {channels:?}, {bits} bits");
        let result = decode(&server.get(&url("result")).bytes, &Limits::default()).expect("a TIFF").picture;
        let (size, shown) = view(&url("result"));
        assert_eq!((size, bytes_of(&shown)), ([80, 48], bytes_of(&result)), "a result, {channels:?}, {bits} bits");
    }
}

#[test]
fn a_view_is_bounded_says_what_is_wrong_and_needs_the_files_own_address() {
    let server = Server::start(&[]);
    let large = upload(&server, "large.tif", &file(&slope(6000, 5000, Channels::Gray, 8), Format::Tiff));
    let answer = server.get(&format!("{large}&view=1"));
    assert_eq!((answer.header("x-image-width"), answer.header("x-image-height")), ("6000", "5000"));
    let (width, height) = png_size(&answer.bytes);
    assert!(width * height <= 24_000_000 && width > 5300, "reduced in proportion: {width} x {height}");

    let torn = upload(&server, "torn.tif", &file(&slope(40, 24, Channels::Rgb, 8), Format::Tiff)[..60]);
    let answer = server.get(&format!("{torn}&view=1"));
    assert_eq!(answer.status, 400);
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("TIFF"), "{message}");

    assert_eq!(server.get(&format!("{}x&view=1", large.replace("signature=", "signature=A"))).status, 403);
}

#[test]
fn a_thumbnail_keeps_transparency() {
    let server = Server::start(&[]);
    for (channels, kind) in
        [(Channels::Rgba, "image/png"), (Channels::GrayAlpha, "image/png"), (Channels::Rgb, "image/jpeg")]
    {
        let image = base64(&file(&slope(40, 24, channels, 8), Format::Png));
        let id = server.submit("/api/tasks", &json!({ "image": image, "request": { "model": "animevideo-v3" } }));
        let thumb = server.get(server.wait_done(&id)["thumb_url"].as_str().unwrap());
        assert_eq!(thumb.header("content-type"), kind, "{channels:?}");
        let channels_now = decode(&thumb.bytes, &Limits::default()).unwrap().picture.channels;
        assert_eq!(channels_now.has_alpha(), channels.has_alpha());
    }
}

/// The two files of a small Compact network that computes nothing but its nearest-neighbour branch: all its weights are 0.
fn ncnn_pair() -> (String, Vec<u8>) {
    let layers = [
        "Input            data   0 1 data",
        "Split            split  1 2 data d0 d1",
        "Convolution      conv0  1 1 d0 a 0=8 1=3 4=1 5=1 6=216",
        "PReLU            prelu0 1 1 a b 0=8",
        "Convolution      conv1  1 1 b c 0=8 1=3 4=1 5=1 6=576",
        "PReLU            prelu1 1 1 c d 0=8",
        "Convolution      conv2  1 1 d e 0=48 1=3 4=1 5=1 6=3456",
        "PixelShuffle     shuffle 1 1 e f 0=4",
        "Interp           up     1 1 d1 g 0=1 1=4.000000 2=4.000000",
        "BinaryOp         add    2 1 f g output 0=0",
    ];
    let param = format!("7767517\n{} 11\n{}\n", layers.len(), layers.join("\n"));
    // A convolution's weights follow a tag for 32 bits, its bias and a PReLU's slopes do not.
    let values: usize = [1 + 216 + 8, 8, 1 + 576 + 8, 8, 1 + 3456 + 48].iter().sum();
    (param, vec![0; values * 4])
}

#[test]
fn an_ncnn_model_is_added_from_both_its_files_and_enlarges() {
    let server = Server::start(&[]);
    let (param, bin) = ncnn_pair();
    // In either order, and whatever the .bin is called.
    for (param_name, bin_name) in [("nearest.param", "nearest.bin"), ("other.param", "weights.bin")] {
        let files = json!([
            { "name": bin_name, "url": upload(&server, bin_name, &bin) },
            { "name": param_name, "url": upload(&server, param_name, param.as_bytes()) },
        ]);
        let answer = server.post("/api/models", &json!({ "files": files }));
        assert_eq!(answer.status, 201, "{}", answer.text());
        let model = answer.json();
        assert_eq!((model["name"].as_str(), &model["scale"]), (param_name.strip_suffix(".param"), &json!(4)));
        assert!(model["good_at"].is_string());
    }
    let request = json!({ "size": { "factor": 4.0 }, "model": "nearest" });
    let done =
        server.wait_done(&server.submit("/api/tasks", &json!({ "image": base64(&photo(32, 24)), "request": request })));
    assert_eq!(png_size(&server.get(done["result"]["url"].as_str().unwrap()).bytes), (128, 96));
}

#[test]
fn what_is_wrong_with_a_model_is_told_without_the_servers_folders_and_flags() {
    let server = Server::start(&[]);
    let (param, bin) = ncnn_pair();
    let put = |name: &str, bytes: &[u8]| server.send("PUT", &format!("/api/models/{name}"), &[], bytes);
    let pair = |files: &[(&str, &[u8])]| {
        let files: Vec<Value> =
            files.iter().map(|(name, bytes)| json!({ "name": name, "url": upload(&server, name, bytes) })).collect();
        server.post("/api/models", &json!({ "files": files }))
    };
    let answers = [
        ("junk.pth", put("junk.pth", b"not a model"), "junk.pth: "),
        ("half", put("net.param", param.as_bytes()), "net.param is only half of an ncnn model"),
        ("other half", put("net.bin", &bin), "net.bin: "),
        ("short", pair(&[("net.param", param.as_bytes()), ("net.bin", &bin[..100])]), "net.param: "),
        ("strangers", pair(&[("a.pth", b"x"), ("b.pth", b"y")]), "these two files do not belong to one model"),
        ("taken", put("x4plus.pth", b"x"), "a bundled model is already named x4plus"),
        ("no such", server.send("DELETE", "/api/models/nothing", &[], &[]), "there is no model named"),
        ("bundled", server.send("DELETE", "/api/models/x4plus", &[], &[]), "x4plus"),
        (
            "forged",
            server.post("/api/models", &json!({ "files": [{ "name": "a.pth", "url": "/files/objects/x?y" }] })),
            "files has a URL",
        ),
    ];
    for (what, answer, begins) in answers {
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
        let body = answer.json();
        let message = body["message"].as_str().unwrap();
        assert!(message.starts_with(begins), "{what}: {message}");
        let said = answer.text();
        for secret in [server.dir().to_str().unwrap(), "/tmp", "--"] {
            assert!(!said.contains(secret), "{what} says {secret}: {said}");
        }
    }
}
