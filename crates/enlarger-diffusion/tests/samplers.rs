//! Samplers, noise and tokens are those of diffusers, torch and transformers.

mod common;

use common::{close, reference, signal};
use enlarger_diffusion::{
    noise::Noise,
    prompt::Tokenizer,
    sampler::{Prediction, Sampler, Schedule, sample},
};

/// Runs a sampler on a formula in place of a network, at the reference's times.
fn run(name: &str, sampler: Sampler, ours: &Schedule) {
    let reference = reference("samplers");
    let times = &reference[&format!("{name}.timesteps")];
    // Some of diffusers' schedulers round the times between two steps.
    assert!(ours.times.iter().zip(times).all(|(a, b)| (a - b).abs() <= 0.51), "{name}: {:?} {times:?}", ours.times);
    if let Some(sigmas) = reference.get(&format!("{name}.sigmas")) {
        close(&format!("{name}: sigmas"), &ours.sigmas, sigmas, 1e-5);
    }
    let schedule = Schedule { sigmas: ours.sigmas.clone(), times: times.clone() };
    let toy = |x: &[f32], t: f32, _: usize| Ok(x.iter().map(|v| 0.7 * v.tanh() + 0.2 * (0.01 * t).sin()).collect());
    let (start, noise) = (signal("start", 64, 1.0), signal("toy noise", 64, 1.0));
    let draw = |i: usize| signal(&format!("draw {i}"), 64, 1.0);
    let got = sample(sampler, &schedule, Prediction::Noise, &start, &noise, toy, draw).unwrap();
    close(name, &got, &reference[name], 2e-5);
}

#[test]
fn dpmpp_2m_karras_is_that_of_diffusers() {
    run("dpmpp", Sampler::Dpmpp2m, &Schedule::karras(12, 9).unwrap());
}

#[test]
fn euler_is_that_of_diffusers() {
    run("euler", Sampler::Euler, &Schedule::karras(12, 9).unwrap());
}

#[test]
fn ddim_is_that_of_diffusers() {
    run("ddim", Sampler::Ddim, &Schedule::ddim(10, 6).unwrap());
}

#[test]
fn lcm_is_that_of_diffusers() {
    run("lcm", Sampler::Lcm, &Schedule::lcm(4, 1.0).unwrap());
}

#[test]
fn euler_ancestral_is_that_of_diffusers() {
    let reference = reference("samplers");
    let schedule =
        Schedule { sigmas: reference["eulera.sigmas"].clone(), times: reference["eulera.timesteps"].clone() };
    run("eulera", Sampler::EulerAncestral, &schedule);
}

#[test]
fn noise_of_a_seed_is_that_of_torch() {
    let reference = reference("samplers");
    for count in [5, 16, 70] {
        close(&format!("{count}"), &Noise::new(1337).normal(count), &reference[&format!("randn.{count}")], 1e-6);
    }
}

#[test]
fn words_become_the_tokens_of_transformers() {
    let tokenizer = Tokenizer::default();
    let text = std::fs::read_to_string(common::reference_file("tokens.txt")).unwrap();
    for line in text.lines() {
        let (text, ids): (String, Vec<u32>) = serde_json::from_str(line).unwrap();
        assert_eq!(tokenizer.tokens(&text), ids, "{text}");
    }
}
