//! `facts FOLDER [art]`: what is measured of each photo (or piece of flat art), reduced 4x as in `quality` and damaged in
//! several ways, and for how many of them the right kind comes out. JPEG 90 is counted as neither: either treatment does.

use std::path::PathBuf;

use anyhow::Context;
use enlarger_benches::{
    damage::{Damage, reduce},
    photos::{ground_truth, list, load},
};
use enlarger_pipeline::{Content, Facts};

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
    let undamaged = match std::env::args().nth(2).as_deref() {
        Some("art") => Content::Art,
        _ => Content::CleanPhoto,
    };
    let (mut right, mut counted) = (0, 0);
    println!("{:32} {:26} {:>6} {:>6} {:>6}  content", "photo", "damage", "noise", "blocks", "flat");
    for path in list(&folder)? {
        let small = reduce(&ground_truth(&load(&path)?, 1536, 1024), 4);
        let name = path.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        for damage in DAMAGES {
            let f = Facts::of(&damage.apply(&small)?);
            let wanted = match damage {
                Damage::Jpeg(90) => None,
                Damage::Clean => Some(undamaged),
                _ => Some(Content::DamagedPhoto),
            };
            counted += usize::from(wanted.is_some());
            right += usize::from(wanted == Some(f.content));
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
    println!("as expected: {right} of {counted}");
    Ok(())
}
