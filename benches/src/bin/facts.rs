//! `facts FOLDER [KIND]`: what is measured of each photo, reduced 4x as in `quality` and damaged in several ways.

use std::path::PathBuf;

use anyhow::Context;
use enlarger_benches::{
    damage::{Damage, reduce},
    photos::{ground_truth, list, load},
};
use enlarger_pipeline::Facts;

const DAMAGES: [Damage; 8] = [
    Damage::Clean,
    Damage::Jpeg(90),
    Damage::Jpeg(75),
    Damage::Jpeg(50),
    Damage::Jpeg(30),
    Damage::Noise(5),
    Damage::Noise(15),
    Damage::Hard,
];

fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).context("name the folder of photos")?);
    println!("{:32} {:26} {:>6} {:>6} {:>6}  content", "photo", "damage", "noise", "blocks", "flat");
    for path in list(&folder)? {
        let small = reduce(&ground_truth(&load(&path)?, 1536, 1024), 4);
        let name = path.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        for damage in DAMAGES {
            let f = Facts::of(&damage.apply(&small)?);
            println!(
                "{name:32.32} {:26} {:6.2} {:6.3} {:6.3}  {:?}",
                damage.name(),
                f.noise,
                f.blockiness,
                f.flatness,
                f.content
            );
        }
    }
    Ok(())
}
