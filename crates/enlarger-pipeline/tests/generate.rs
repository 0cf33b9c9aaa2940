//! The generative engine as a job sees it: progress, cancelling, what a plan and a request keep. On tiny random checkpoints.

#[path = "../../enlarger/tests/common/checkpoints.rs"]
mod checkpoints;

use std::{
    io::Cursor,
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use enlarger_image::{Channels, EncodeOptions, Limits, Metadata, Picture, Samples, encode};
use enlarger_pipeline::{
    Creative, Enlarger, EnlargerOptions, Generative, Output, Pass, PipelineError, Precision, Progress, Quality,
    Request, Stage, Step, Style, Unwatched, Watch,
};
use tempfile::TempDir;

static MODELS: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    checkpoints::write(&folder.path().join("checkpoints/tiny.safetensors"), &checkpoints::checkpoint());
    checkpoints::write(&folder.path().join("controlnet/tile.safetensors"), &checkpoints::control());
    folder
});

fn enlarger() -> Enlarger {
    let model_dirs = vec![MODELS.path().to_owned()];
    Enlarger::new(EnlargerOptions { model_dirs, ..EnlargerOptions::default() }).unwrap()
}

fn png(width: u32, height: u32) -> Vec<u8> {
    let samples = Samples::U8((0..width * height * 3).map(|i| (i * 37 % 251) as u8).collect());
    let picture = Picture { width, height, channels: Channels::Rgb, samples, metadata: Metadata::default() };
    let mut png = Cursor::new(Vec::new());
    encode(&picture, &EncodeOptions::default(), &mut png).unwrap();
    png.into_inner()
}

fn request() -> Request {
    Request {
        model: Some("animevideo-v3".into()),
        seed: Some(5),
        generative: Some(Generative::default()),
        ..Request::default()
    }
}

/// Remembers progress, and cancels at a share of the work.
struct Watching {
    seen: Mutex<Vec<Progress>>,
    at: f64,
    cancelled: AtomicBool,
}

impl Watching {
    fn until(at: f64) -> Self {
        Self { seen: Mutex::default(), at, cancelled: AtomicBool::new(false) }
    }
}

impl Watch for Watching {
    fn progress(&self, progress: &Progress) {
        if progress.stage == Stage::Enlarge && progress.fraction > self.at {
            self.cancelled.store(true, Relaxed);
        }
        self.seen.lock().unwrap().push(*progress);
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Relaxed)
    }
}

#[test]
fn progress_only_rises_and_a_job_stops_where_it_is_cancelled() {
    let (enlarger, png) = (enlarger(), png(40, 32));
    let job = |watch: &Watching| {
        let mut out = Cursor::new(Vec::new());
        enlarger.job(&png, &request(), &Output::default(), &Limits::default(), &mut out, watch)
    };
    let whole = Watching::until(2.0);
    let outcome = job(&whole).unwrap();
    assert_eq!(outcome.plan.generated().count(), 1);
    let seen = whole.seen.into_inner().unwrap();
    assert!(seen.is_sorted_by(|a, b| a.fraction <= b.fraction));
    // 7 steps of one tile, and the VAE's tiles before and after, are one pass.
    let tiles: Vec<u64> = seen.iter().filter(|p| p.stage == Stage::Enlarge && p.total == 9).map(|p| p.done).collect();
    assert!(tiles.is_sorted() && tiles.last() >= Some(&8), "{tiles:?}");

    let half = Watching::until(0.5);
    assert!(matches!(job(&half), Err(PipelineError::Cancelled)));
    let seen = half.seen.into_inner().unwrap();
    assert!(seen.iter().all(|p| p.stage != Stage::Encode), "nothing is written");
}

#[test]
fn a_request_without_the_engine_is_stored_and_planned_as_before() {
    let stored = serde_json::to_string(&Request::default()).unwrap();
    assert!(!stored.contains("generative"), "{stored}");
    let with = request();
    let stored = serde_json::to_string(&with).unwrap();
    assert_eq!(serde_json::from_str::<Request>(&stored).unwrap(), with);

    let (enlarger, png) = (enlarger(), png(24, 24));
    let plan = |request: &Request| enlarger.dry_run(&png, request, &Limits::default(), &Unwatched).unwrap().plan;
    let plain = Request { generative: None, ..request() };
    assert!(plan(&plain).generated().next().is_none());
    // A draft and the precision style leave the engine out, and say so.
    let draft = plan(&Request { quality: Quality::Draft, ..request() });
    assert!(
        draft.generated().next().is_none() && draft.idle.iter().any(|n| n.contains("generative engine is not used"))
    );
    let precise = plan(&Request { style: Style::Precision(Precision::default()), ..request() });
    assert!(precise.generated().next().is_none() && precise.idle.iter().any(|n| n.contains("precision style")));
}

#[test]
fn planning_ends_when_it_is_cancelled() {
    struct Stopped;
    impl Watch for Stopped {
        fn cancelled(&self) -> bool {
            true
        }
    }
    let (enlarger, png) = (enlarger(), png(24, 24));
    let planned = enlarger.dry_run(&png, &request(), &Limits::default(), &Stopped);
    assert!(matches!(planned, Err(PipelineError::Cancelled)));
    let estimated = enlarger.estimate(24, 24, &request(), &Stopped);
    assert!(matches!(estimated, Err(PipelineError::Cancelled)), "files are not read for their hashes");
}

#[test]
fn filters_that_imitate_a_knob_step_back_where_the_engine_has_it() {
    let (enlarger, png) = (enlarger(), png(24, 24));
    let filters = |knobs: Creative, generative: Option<Generative>| -> Vec<String> {
        let request = Request { style: Style::Creative(knobs), generative, model: None, ..request() };
        let plan = enlarger.dry_run(&png, &request, &Limits::default(), &Unwatched).unwrap().plan;
        let json = |step: &Step| serde_json::to_value(step).unwrap()["filter"].as_str().map(str::to_owned);
        plan.steps.iter().filter_map(json).collect()
    };
    let knobs = Creative { creativity: 8, fractality: 8, hdr: 8, resemblance: 8, ..Creative::default() };
    let plain = filters(knobs.clone(), None);
    assert!(["texture", "echo", "tone"].iter().all(|name| plain.iter().any(|f| f == name)), "{plain:?}");
    let drawn = filters(knobs.clone(), Some(Generative::default()));
    assert_eq!(drawn, ["lock", "match", "settle"]);
    // Where there is no guidance, hdr means contrast as it does without the engine.
    let distilled = Generative { guidance: Some(1.0), ..Generative::default() };
    assert_eq!(filters(knobs, Some(distilled)), ["lock", "match", "settle", "tone"]);
}

#[test]
fn a_file_that_changed_is_planned_with_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.safetensors");
    let mut arrays = checkpoints::checkpoint();
    checkpoints::write(&path, &arrays);
    let options = EnlargerOptions { model_dirs: vec![folder.path().to_owned()], ..EnlargerOptions::default() };
    let (enlarger, png) = (Enlarger::new(options).unwrap(), png(16, 16));
    let plan = || enlarger.dry_run(&png, &request(), &Limits::default(), &Unwatched).unwrap().plan;
    let before = plan();
    arrays[0].3[0] ^= 1;
    // Another name for a moment: the file is replaced as a download does it.
    let other = folder.path().join("other.tmp");
    checkpoints::write(&other, &arrays);
    std::fs::rename(other, path).unwrap();
    let after = plan();
    let sha256 = |plan: &enlarger_pipeline::Plan| match plan.generated().next() {
        Some(Pass::Diffuse(pass)) => pass.checkpoint.sha256.clone(),
        other => panic!("{other:?}"),
    };
    assert_ne!(sha256(&before), sha256(&after));
    assert_ne!(before.hash(), after.hash());
}
