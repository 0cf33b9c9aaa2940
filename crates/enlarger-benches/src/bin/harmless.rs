//! `harmless FOLDER…`: how many images in which nothing is explicit `filter_nsfw` would refuse. Each is looked at as a whole and as its
//! middle: a square of half its shorter side, in which skin fills more of what the network sees.

use std::path::PathBuf;

use anyhow::ensure;
use enlarger_benches::photos::{cut, list, load};
use enlarger_pipeline::{Crop, EXPLICIT, explicit};

fn main() -> anyhow::Result<()> {
    let folders: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    ensure!(!folders.is_empty(), "usage: harmless FOLDER…");
    println!("| folder | images | refused | of their middles | highest certainty |\n|---|---|---|---|---|");
    for folder in folders {
        let (mut count, mut refused, mut highest) = (0, [0; 2], 0.0f32);
        for path in list(&folder)? {
            let picture = match load(&path) {
                Ok(picture) if picture.width.min(picture.height) >= 64 => picture,
                Ok(_) => continue,
                Err(error) => {
                    eprintln!("left out: {error:#}");
                    continue;
                }
            };
            let side = picture.width.min(picture.height) / 2;
            let (x, y) = ((picture.width - side) / 2, (picture.height - side) / 2);
            let middle = cut(&picture, Crop { x, y, width: side, height: side });
            count += 1;
            for (refused, (what, picture)) in refused.iter_mut().zip([("whole", &picture), ("middle", &middle)]) {
                let certainty = explicit(picture);
                highest = highest.max(certainty);
                if certainty >= EXPLICIT / 2.0 {
                    eprintln!("{certainty:.2}  {}, {what}", path.display());
                }
                *refused += usize::from(certainty >= EXPLICIT);
            }
        }
        let [whole, middles] = refused;
        let name = folder.file_name().unwrap_or(folder.as_os_str()).display();
        println!("| {name} | {count} | {whole} | {middles} | {highest:.2} |");
    }
    Ok(())
}
