//! Files are recognised by their headers alone, and bad ones are refused in a sentence, without memory for what they claim.

mod common;

use std::{fs::File, io::Write, path::Path, sync::Arc};

use enlarger_diffusion::{
    Error,
    clip::Clip,
    cpu::Cpu,
    family::{Checkpoint, Family, Kind, recognise},
    file::Safetensors,
    layers::Heads,
    ops::{Activation, Ops},
    sampler::Prediction,
    unet::{Context, Unet},
    vae::Vae,
    weights::{Part, Weights},
};
use safetensors::Dtype;

/// A file with a true header and no bytes on disk behind it.
fn sparse(path: &Path, arrays: &[(&str, &[usize])]) -> Safetensors {
    let mut at = 0;
    let entries: serde_json::Map<String, serde_json::Value> = arrays
        .iter()
        .map(|(name, shape)| {
            let from = at;
            at += 2 * shape.iter().product::<usize>();
            (name.to_string(), serde_json::json!({"dtype": "F16", "shape": shape, "data_offsets": [from, at]}))
        })
        .collect();
    let header = serde_json::to_vec(&entries).unwrap();
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    file.set_len((8 + header.len() + at) as u64).unwrap();
    Safetensors::open(path).unwrap()
}

#[test]
fn families_are_told_from_names_and_shapes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let told = |arrays: &[(&str, &[usize])]| match recognise(&sparse(&path, arrays)) {
        Ok(kind) => kind.to_string(),
        Err(e) => e.to_string().split(", which").next().unwrap().to_owned(),
    };
    let ldm = "model.diffusion_model.input_blocks.0.0.weight";
    let text = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight";
    let (vae, clip) = ("first_stage_model.decoder.conv_in.weight", "cond_stage_model.transformer.text_model.x");
    let conv: &[usize] = &[320, 4, 3, 3];
    let latents: &[usize] = &[512, 4, 3, 3];
    assert_eq!(told(&[(ldm, conv), (text, &[320, 768]), (vae, latents), (clip, &[1])]), "SD 1.x checkpoint");
    assert_eq!(told(&[(ldm, conv), (text, &[320, 1024]), (vae, latents)]), "SD 2.x checkpoint without text encoder");
    assert_eq!(told(&[(ldm, conv), (text, &[640, 2048])]), "SDXL checkpoint without a VAE or text encoder");
    assert_eq!(
        told(&[("conv_in.weight", conv), ("down.attn2.to_k.weight", &[640, 2048])]),
        "SDXL checkpoint without a VAE or text encoder"
    );
    assert_eq!(told(&[("decoder.conv_in.weight", latents)]), "VAE for SD 1.x, 2.x or SDXL");
    assert_eq!(
        told(&[
            ("control_model.input_hint_block.0.weight", &[16, 3, 3, 3]),
            ("control_model.x.attn2.to_k.weight", &[320, 768])
        ]),
        "ControlNet for SD 1.x"
    );
    assert_eq!(
        told(&[("controlnet_cond_embedding.conv_in.weight", &[16, 3, 3, 3]), ("x.attn2.to_k.weight", &[640, 2048])]),
        "ControlNet for SDXL"
    );
    assert_eq!(
        told(&[
            ("lora_unet_x_attn2_to_k.lora_down.weight", &[4, 768]),
            ("lora_unet_x_attn2_to_k.lora_up.weight", &[320, 4])
        ]),
        "LoRA for SD 1.x"
    );
    assert_eq!(
        told(&[("unet.x.attn2.to_k.lora_A.weight", &[4, 2048]), ("unet.x.attn2.to_k.lora_B.weight", &[640, 4])]),
        "LoRA for SDXL"
    );
    assert_eq!(told(&[("emb_params", &[4, 768])]), "embedding for SD 1.x");
    assert_eq!(told(&[("clip_l", &[4, 768]), ("clip_g", &[4, 1280])]), "embedding for SDXL");

    assert_eq!(told(&[(ldm, &[320, 9, 3, 3]), (text, &[320, 768])]), "x.safetensors is a checkpoint for inpainting");
    assert_eq!(
        told(&[(ldm, &[320, 8, 3, 3]), (text, &[320, 768])]),
        "x.safetensors is a checkpoint that edits by instructions (InstructPix2Pix)"
    );
    assert_eq!(told(&[(ldm, &[384, 4, 3, 3]), (text, &[768, 1280])]), "x.safetensors is the SDXL refiner");
    assert_eq!(
        told(&[("model.diffusion_model.double_blocks.0.img_attn.qkv.weight", &[9, 3])]),
        "x.safetensors is a network of the Flux family"
    );
    assert_eq!(
        told(&[("model.diffusion_model.joint_blocks.0.x", &[9, 3])]),
        "x.safetensors is a network of Stable Diffusion 3"
    );
    let union = |kinds| {
        told(&[
            ("task_embedding", &[kinds, 320]),
            ("controlnet_cond_embedding.conv_in.weight", &[16, 3, 3, 3]),
            ("down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight", &[640, 2048]),
        ])
    };
    assert_eq!(union(8), "union ControlNet for SDXL");
    assert_eq!(union(6), "x.safetensors is a union ControlNet that follows no tiles, as ProMax does");
    assert_eq!(told(&[("lora_unet_x.lokr_w1", &[4, 4])]), "x.safetensors is a LoKr");
    assert_eq!(
        told(&[("lora_unet_x.lora_down.weight", &[4, 4]), ("lora_unet_x.dora_scale", &[4])]),
        "x.safetensors is a DoRA"
    );
    assert_eq!(
        told(&[("decoder.conv_in.weight", &[512, 16, 3, 3])]),
        "x.safetensors is a VAE of 16 channels, for a different model family"
    );
    let unknown = "x.safetensors is not recognized as part of a Stable Diffusion model; hint: ";
    assert!(told(&[("model.0.weight", &[64, 3, 3, 3])]).starts_with(unknown));
    assert!(told(&[]).starts_with(unknown));
}

#[test]
fn hostile_headers_are_refused_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let open = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        match Safetensors::open(&path) {
            Err(Error::File(sentence)) => sentence,
            other => panic!("{other:?}"),
        }
    };
    let with = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    };
    assert!(open(b"").contains("too short"));
    assert!(open(&u64::MAX.to_le_bytes()).contains("truncated"));
    assert!(open(&(1u64 << 40).to_le_bytes()).contains("truncated"));
    assert!(open(&with("not json", 0)).contains("damaged"));
    assert!(open(&with(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 4)).contains("truncated: 4 bytes"));
    assert!(open(&with(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 9)).contains("longer than"));
    for header in [
        r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
        r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}}"#,
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    ] {
        let sentence = open(&with(header, 12));
        assert!(sentence.starts_with("x.safetensors: its header is damaged") && sentence.len() < 200, "{sentence}");
    }
    let deep = "[".repeat(1 << 20);
    assert!(open(&with(&deep, 0)).contains("damaged"));
    // A header of 33 MB that is really there.
    let mut file = File::create(&path).unwrap();
    file.write_all(&(33u64 << 20).to_le_bytes()).unwrap();
    file.set_len(40 << 20).unwrap();
    assert!(Safetensors::open(&path).unwrap_err().to_string().contains("no real one"));
    assert!(Safetensors::open(folder.path()).is_err() && Safetensors::open(&folder.path().join("none")).is_err());
}

#[test]
fn networks_that_are_not_whole_are_refused_by_the_name_of_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = "model.diffusion_model.";
    let whole = common::keys("sd15", &[prefix]);
    let build = |keys: &[(String, Vec<usize>)]| {
        let path = folder.path().join("x.safetensors");
        let arrays: Vec<(&str, &[usize])> = keys.iter().map(|(n, s)| (n.as_str(), s.as_slice())).collect();
        let weights = Weights::new(&Arc::new(sparse(&path, &arrays)), prefix, Part::Unet);
        Unet::load(&Cpu::default(), &weights, Heads::Count(8)).map(|_| ()).unwrap_err().to_string()
    };
    let without = |part: &str| build(&whole.iter().filter(|(n, _)| !n.contains(part)).cloned().collect::<Vec<_>>());
    assert!(
        without("output_blocks.3.0.in_layers.2.weight")
            .contains("x.safetensors lacks model.diffusion_model.output_blocks.3.0.in_layers.2.weight")
    );
    assert!(without("output_blocks.11").contains("on the way"));
    assert!(without("time_embed.0").contains("x.safetensors lacks time_embedding.linear_1.weight"));
    assert!(without("model.").contains("levels"));
    // Shapes that fit no layer are found when the network runs, and are no panic.
    for (part, shape) in [
        ("input_blocks.1.0.in_layers.2.weight", vec![32, 31, 3, 3]),
        ("time_embed.2.weight", vec![128, 127]),
        ("time_embed.0.weight", vec![128, 31]),
        ("input_blocks.1.1.norm.bias", vec![31]),
        ("input_blocks.1.1.proj_in.weight", vec![32, 32, 2, 2]),
        ("attn2.to_k.weight", vec![40, 32]),
        ("out.2.weight", vec![0, 32, 3, 3]),
        ("out_layers.3.bias", vec![5]),
        ("middle_block.0.emb_layers.1.weight", vec![1, 128]),
    ] {
        let keys: Vec<_> =
            whole.iter().cloned().map(|(n, s)| if n.ends_with(part) { (n, shape.clone()) } else { (n, s) }).collect();
        let path = folder.path().join("x.safetensors");
        let arrays: Vec<(&str, &[usize])> = keys.iter().map(|(n, s)| (n.as_str(), s.as_slice())).collect();
        let weights = Weights::new(&Arc::new(sparse(&path, &arrays)), prefix, Part::Unet);
        let ops = Cpu::default();
        let result = Unet::load(&ops, &weights, Heads::Count(8)).and_then(|unet| {
            let text = ops.upload([1, 1, 77, 32], &vec![0.0; 77 * 32])?;
            let x = ops.upload([1, 8, 8, 4], &[0.0; 256])?;
            unet.run(&ops, &x, 1.0, &Context { text, added: None }, None)
        });
        assert!(matches!(result.map(|_| ()), Err(Error::Weights(_))), "{part}");
    }
    let odd: Vec<_> =
        whole.iter().cloned().map(|(n, s)| if n.ends_with(".out.0.weight") { (n, vec![33]) } else { (n, s) }).collect();
    assert!(build(&odd).contains("33 channels"));
}

#[test]
fn text_encoders_and_vaes_that_are_not_whole_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let ops = Cpu::default();
    let text: [&[(&str, &[usize])]; 3] = [
        &[
            ("token_embedding.weight", &[49408, 0]),
            ("positional_embedding", &[77, 0]),
            ("ln_final.weight", &[0]),
            ("ln_final.bias", &[0]),
        ],
        &[
            ("token_embedding.weight", &[49408, 8]),
            ("positional_embedding", &[77, 8]),
            ("ln_final.weight", &[8]),
            ("ln_final.bias", &[8]),
        ],
        &[
            ("token_embedding.weight", &[9, 8]),
            ("positional_embedding", &[77, 8]),
            ("transformer.resblocks.0.attn.in_proj_bias", &[]),
        ],
    ];
    for arrays in text {
        let weights = Weights::new(&Arc::new(sparse(&path, arrays)), "", Part::OpenClip);
        let clip = Clip::load(&ops, &weights, Activation::Gelu, Heads::Width(8)).map(|_| ());
        assert!(matches!(clip, Err(Error::Weights(_))), "{arrays:?}");
        let names: Vec<String> = weights.names().map(str::to_owned).collect();
        assert!(names.iter().all(|name| weights.get(name).is_ok()), "each array is read, whatever its shape");
    }
    let keys: Vec<_> =
        common::keys("sd15", &["first_stage_model."]).into_iter().filter(|(n, _)| !n.contains(".down.")).collect();
    let arrays: Vec<(&str, &[usize])> = keys.iter().map(|(n, s)| (n.as_str(), s.as_slice())).collect();
    let weights = Weights::new(&Arc::new(sparse(&path, &arrays)), "first_stage_model.", Part::Vae);
    assert!(Vae::load(&ops, &weights, 1.0).map(|_| ()).unwrap_err().to_string().contains("no levels"));
}

#[test]
fn a_folder_of_diffusers_holds_the_same_network_as_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = "first_stage_model.";
    let file = common::file(folder.path(), "sd15", &[prefix], Dtype::F16);
    let one = Weights::new(&file, prefix, Part::Vae);
    let arrays: Vec<_> = one
        .names()
        .map(|name| {
            let array = one.get(name).unwrap();
            (name.to_owned(), array.shape.clone(), array.to_f32().unwrap())
        })
        .collect();
    std::fs::create_dir_all(folder.path().join("vae")).unwrap();
    common::write(&folder.path().join("vae/diffusion_pytorch_model.safetensors"), &arrays, Dtype::F32);
    // A variant beside it is not read, too.
    std::fs::write(folder.path().join("vae/diffusion_pytorch_model.fp16.safetensors"), b"damaged").unwrap();
    std::fs::create_dir_all(folder.path().join("unet")).unwrap();
    let unet = folder.path().join("unet/diffusion_pytorch_model.safetensors");
    sparse(&unet, &[("conv_in.weight", &[320, 4, 3, 3]), ("down_blocks.0.x.attn2.to_k.weight", &[320, 768])]);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!((checkpoint.family, checkpoint.text.is_empty()), (Family::Sd1, true));
    assert_eq!(checkpoint.prediction, Prediction::Noise);
    std::fs::create_dir_all(folder.path().join("scheduler")).unwrap();
    let predicts = |config: &str| {
        std::fs::write(folder.path().join("scheduler/scheduler_config.json"), config).unwrap();
        Checkpoint::open(folder.path()).map(|checkpoint| checkpoint.prediction).map_err(|error| error.to_string())
    };
    assert_eq!(predicts(r#"{"prediction_type": "v_prediction"}"#), Ok(Prediction::V));
    assert_eq!(predicts(r#"{"prediction_type": "epsilon"}"#), Ok(Prediction::Noise));
    assert!(predicts(r#"{"prediction_type": "sample"}"#).unwrap_err().contains("\"sample\""));
    assert!(predicts("{").unwrap_err().contains("scheduler_config.json"));
    assert!(checkpoint.vae.names().eq(one.names()));
    for name in one.names() {
        assert_eq!(checkpoint.vae.get(name).unwrap().to_f32(), one.get(name).unwrap().to_f32(), "{name}");
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(Checkpoint::open(empty.path()).unwrap_err().to_string().contains("lacks unet"));
    assert_eq!(recognise(&file).unwrap(), Kind::Vae);
}
