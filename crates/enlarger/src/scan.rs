//! What `enlarger models scan` prints.

use std::fmt::Write as _;

use enlarger_error::printable;
use enlarger_models::{Found, What};

/// Prints what was found: checkpoints with what goes with each, then the rest.
pub fn show(found: &[Found]) {
    print!("{}", listing(found));
}

fn listing(found: &[Found]) -> String {
    let mut text = String::new();
    let mut line = |indent: &str, f: &Found| {
        let (megabytes, hash) =
            (f.bytes as f64 / f64::from(1 << 20), f.sha256.as_deref().and_then(|hash| hash.get(..10)));
        let hash = hash.map(|hash| format!(", {hash}")).unwrap_or_default();
        let _ =
            writeln!(text, "{indent}{}  {} ({megabytes:.0} MB{hash})  {}", printable(&f.name), f.what, shown_path(f));
    };
    let mut shown = Vec::new();
    for checkpoint in found.iter().filter(|f| f.what.kind() == "checkpoint") {
        line("", checkpoint);
        let Some(family) = checkpoint.what.family() else { continue };
        for kind in ["control", "vae", "lora", "embedding"] {
            for part in found.iter().filter(|f| f.what.kind() == kind && f.what.fits(family)) {
                line("  + ", part);
                shown.push(&part.path);
            }
        }
    }
    for rest in found.iter().filter(|f| matches!(f.what, What::Part(_)) && f.what.kind() != "checkpoint") {
        if !shown.contains(&&rest.path) {
            line("without checkpoint: ", rest);
        }
    }
    for network in found.iter().filter(|f| f.what.kind() == "network") {
        let _ = writeln!(
            text,
            "{}  {}; to use it: enlarger models add {:?}",
            printable(&network.name),
            network.what,
            network.path.display().to_string()
        );
    }
    for unsupported in found.iter().filter(|f| f.what.kind() == "unsupported") {
        let _ = writeln!(text, "not supported: {}  {}", shown_path(unsupported), unsupported.what);
    }
    text
}

fn shown_path(found: &Found) -> String {
    printable(&found.path.display().to_string())
}

#[cfg(test)]
mod tests {
    use enlarger_diffusion::{
        family::{Family, Kind},
        sampler::Prediction,
    };

    use super::*;

    #[test]
    fn checkpoints_come_with_what_goes_with_them() {
        let found = |name: &str, what: What| Found {
            name: name.into(),
            path: name.into(),
            bytes: 2_000_000,
            what,
            sha256: None,
            license: None,
        };
        let checkpoint = Kind::Checkpoint { family: Family::Sd1, prediction: Prediction::Noise, vae: true, text: true };
        let all = [
            found("xl", What::Part(Kind::Control { family: Family::Sdxl, union: false })),
            found("photo", What::Part(checkpoint)),
            found("tile", What::Part(Kind::Control { family: Family::Sd1, union: false })),
            found("any", What::Part(Kind::Vae)),
            found("flux", What::Unsupported("flux is a network of the Flux family".into())),
        ];
        assert_eq!(
            listing(&all),
            "photo  SD 1.x checkpoint (2 MB)  photo\n  + tile  ControlNet for SD 1.x (2 MB)  tile\n  + any  VAE for SD 1.x, 2.x or \
             SDXL (2 MB)  any\nwithout checkpoint: xl  ControlNet for SDXL (2 MB)  xl\nnot supported: flux  flux is a network of the \
             Flux family\n"
        );
    }
}
