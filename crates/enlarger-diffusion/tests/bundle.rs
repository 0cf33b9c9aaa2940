//! Files that go together are told from their headers, and whatever a header claims ends in a sentence: nothing is loaded, nothing
//! panics.

mod common;

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use enlarger_diffusion::{
    Error,
    bundle::{Bundle, Files, Size},
    family::recognise,
    file::Safetensors,
    tiles::Tiles,
};
use proptest::prelude::*;

/// Names and shapes of a checkpoint of SD 1.x, with the width of its text, or of its ControlNet.
fn keys(prefixes: &[&str]) -> Vec<(String, Vec<usize>)> {
    let mut keys = common::keys("sd15", prefixes);
    for (name, shape) in &mut keys {
        if name.contains("attn2.to_k") || name.contains("attn2.to_v") {
            shape[1] = 768;
        } else if name.starts_with("cond_stage_model.") {
            shape.iter_mut().filter(|l| **l == 32).for_each(|l| *l = 768);
        }
    }
    keys
}

/// A file with a header and no bytes on disk behind it. `lie` is added to where the last array ends.
fn sparse(path: &Path, keys: &[(String, Vec<usize>)], dtype: &str, lie: i64) {
    let size = |shape: &[usize]| shape.iter().try_fold(2usize, |a, &b| a.checked_mul(b)).unwrap_or(0).min(1 << 40);
    let mut at = 0;
    let mut header = serde_json::Map::new();
    for (i, (name, shape)) in keys.iter().enumerate() {
        let mut end = at + size(shape);
        if i + 1 == keys.len() {
            end = end.saturating_add_signed(lie as isize);
        }
        header.insert(name.clone(), serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [at, end]}));
        at = end;
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    // As long as it says, if a disk could be.
    let _ = file.set_len((8 + header.len() + at.min(1 << 42)) as u64);
}

const ALL: [&str; 3] = ["model.diffusion_model.", "first_stage_model.", "cond_stage_model."];

fn size(tiles: &Tiles) -> Size<'_> {
    Size { width: 640, height: 512, tiles, steps: 7, guided: true, chunks: 1 }
}

#[test]
fn what_a_request_costs_grows_with_what_it_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    sparse(&at("a.safetensors"), &keys(&ALL), "F16", 0);
    sparse(&at("c.safetensors"), &keys(&["control_model."]), "F16", 0);
    let files = Files { checkpoint: at("a.safetensors"), control: Some(at("c.safetensors")), ..Files::default() };
    let bundle = Bundle::open(&files).unwrap();
    assert_eq!(bundle.residuals(), 13);
    let tiles = Tiles { side: 64, overlap: 16, shifts: vec![[3, 5]], wrap: false };
    let cost = |size: &Size<'_>| bundle.cost(size).unwrap();
    let base = cost(&size(&tiles));
    assert!(base.flops.iter().all(|f| *f > 0.0) && base.peak > base.resident);
    let [_, encode, predict, decode] = base.flops;
    let [_, same, once, also] = cost(&Size { guided: false, ..size(&tiles) }).flops;
    assert_eq!((same, also, (predict / once).round()), (encode, decode, 2.0));
    assert!((cost(&Size { steps: 14, ..size(&tiles) }).flops[2] / predict - 2.0).abs() < 1e-9);
    let large = cost(&Size { width: 1280, height: 1024, ..size(&tiles) });
    assert!(large.flops[2] > 3.0 * predict && large.resident > base.resident);
    let alone = Bundle::open(&Files { control: None, ..files.clone() }).unwrap().cost(&size(&tiles)).unwrap();
    assert!(alone.flops[2] < predict && alone.resident < base.resident);
    let wide = Tiles { side: 12, ..tiles };
    assert!(matches!(bundle.cost(&size(&wide)), Err(Error::Request(_))));
}

#[test]
fn what_does_not_go_together_is_named_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    sparse(&at("a.safetensors"), &keys(&ALL), "F16", 0);
    let sdxl: Vec<_> = keys(&["control_model."])
        .into_iter()
        .map(|(name, shape)| {
            let text = name.contains("attn2.to_k");
            (name, if text { vec![shape[0], 2048] } else { shape })
        })
        .collect();
    sparse(&at("xl.safetensors"), &sdxl, "F16", 0);
    let lora = [("lora_unet_x.lora_down.weight", vec![4, 9]), ("lora_unet_x.lora_up.weight", vec![8, 4])];
    sparse(&at("other.safetensors"), &lora.clone().map(|(name, shape)| (name.to_owned(), shape)), "F16", 0);
    let open = |change: &dyn Fn(&mut Files)| {
        let mut files = Files { checkpoint: at("a.safetensors"), ..Files::default() };
        change(&mut files);
        Bundle::open(&files).map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(open(&|_| ()), Ok(()));
    let said = |result: Result<(), String>, part: &str| {
        let said = result.expect_err(part);
        assert!(said.contains(part), "{said}");
    };
    let control = |name: &str| Some(at(name));
    said(
        open(&|f| f.control = control("xl.safetensors")),
        "xl.safetensors is a ControlNet for SDXL, and a.safetensors is a checkpoint of SD 1.x; hint: use a ControlNet for SD 1.x",
    );
    said(open(&|f| f.control = control("a.safetensors")), "SD 1.x checkpoint, not a ControlNet");
    said(open(&|f| f.vae = control("xl.safetensors")), "ControlNet for SDXL, not a VAE");
    said(
        open(&|f| f.loras = vec![(at("other.safetensors"), 1.0)]),
        "other.safetensors changes no layer of a.safetensors",
    );
    let half = [lora[0].clone(), lora[1].clone(), ("lora_unet_y.lora_up.weight", vec![8, 4])];
    sparse(&at("half.safetensors"), &half.map(|(name, shape)| (name.to_owned(), shape)), "F16", 0);
    said(
        open(&|f| f.loras = vec![(at("half.safetensors"), 1.0)]),
        "half.safetensors lacks lora_unet_y.lora_down.weight",
    );
    let (layer, shape) =
        keys(&ALL).into_iter().find(|(n, s)| n.ends_with("attn1.to_q.weight") && s.len() == 2).unwrap();
    let layer = layer.trim_start_matches("model.diffusion_model.").trim_end_matches(".weight").replace('.', "_");
    let lora = |rank: usize| {
        let arrays = [("down", vec![rank, shape[1]]), ("up", vec![shape[0], rank])];
        let arrays = arrays.map(|(part, shape)| (format!("lora_unet_{layer}.lora_{part}.weight"), shape));
        let name = at(&format!("rank{rank}.safetensors"));
        sparse(&name, &arrays, "F16", 0);
        open(&|f| f.loras = vec![(name.clone(), 1.0)])
    };
    assert_eq!(lora(4), Ok(()));
    said(lora(0), "has a rank of 0 at");
    said(lora(1_000_000), "has a rank of 1000000 at");
    said(open(&|f| f.checkpoint = at("none.safetensors")), "none.safetensors");
    assert_eq!(open(&|f| f.vae = control("a.safetensors")), Ok(()), "a checkpoint's VAE will do");
}

/// Opens, recognises and costs a file; whatever it is, there is an answer.
fn answered(path: PathBuf) {
    if let Ok(file) = Safetensors::open(&path) {
        let _ = recognise(&file).map(|kind| kind.to_string());
    }
    let tiles = Tiles { side: 64, overlap: 16, shifts: Vec::new(), wrap: false };
    let as_control = Files { checkpoint: path.clone(), control: Some(path.clone()), ..Files::default() };
    let as_all = Files { vae: Some(path.clone()), loras: vec![(path.clone(), 0.5)], ..Files::default() };
    let alone = Files { checkpoint: path, ..Files::default() };
    for files in [alone, as_control, as_all] {
        if let Ok(bundle) = Bundle::open(&files) {
            let _ = bundle.residuals();
            let _ = bundle.chunks(&[&[(Some("a wall".into()), 1.0)]]);
            let _ = bundle.cost(&size(&tiles));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn headers_with_any_shapes_and_names_are_answered(
        changes in prop::collection::vec(
            (any::<prop::sample::Index>(), 0usize..6, prop::sample::select(vec![0, 1, 7, 33, 1 << 31, usize::MAX])),
            0..6,
        ),
        names in prop::collection::vec(
            (
                any::<prop::sample::Index>(),
                "(model\\.diffusion_model\\.|first_stage_model\\.)?(input_blocks|output_blocks|down_blocks|encoder\\.down|decoder\\.up|transformer\\.resblocks)\\.[0-9]{1,22}\\.[0-2]\\.(in_layers|attn2|block)\\.[0-9]\\.weight",
            ),
            0..4,
        ),
        dtype in prop::sample::select(vec!["F16", "F32", "I64", "BOOL", "F8_E4M3"]),
        lie in prop::sample::select(vec![0, 0, 0, -2, 2, i64::MAX >> 24]),
    ) {
        let mut keys = keys(&["model.diffusion_model.input_blocks", "model.diffusion_model.m", "first_stage_model.", "cond_stage_model."]);
        for (index, axis, length) in changes {
            let shape = &mut index.get_mut(&mut keys).1;
            match shape.get_mut(axis) {
                Some(l) => *l = length,
                None => shape.push(length),
            }
        }
        for (index, name) in names {
            index.get_mut(&mut keys).0 = name;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        sparse(&path, &keys, dtype, lie);
        answered(path);
    }

    #[test]
    fn bytes_of_any_kind_are_answered(mut bytes in prop::collection::vec(any::<u8>(), 0..400), length in 0u64..500) {
        // Half of them have a length that may be true.
        if bytes.len() > 8 && length % 2 == 0 {
            bytes[..8].copy_from_slice(&length.to_le_bytes());
            bytes[8] = b'{';
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        std::fs::write(&path, bytes).unwrap();
        answered(path);
    }
}
