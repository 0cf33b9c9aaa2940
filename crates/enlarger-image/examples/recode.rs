//! Decodes a picture and encodes it again: `recode IN OUT`. The extension of OUT is the format.

use std::{error::Error, fs::File, io::BufWriter, path::Path};

use enlarger_image::{EncodeOptions, Format, Limits, decode, encode};

fn main() -> Result<(), Box<dyn Error>> {
    let [input, output] = std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "recode IN OUT")?;
    let decoded = decode(&std::fs::read(&input)?, &Limits::for_own_files())?;
    println!("{:?}", decoded.header);
    for note in &decoded.notes {
        println!("note: {note}");
    }
    let extension = Path::new(&output).extension().and_then(|e| e.to_str()).unwrap_or_default();
    let format = Format::from_extension(extension).ok_or("OUT has no extension that is known")?;
    let options = EncodeOptions { format, ..EncodeOptions::default() };
    encode(&decoded.picture, &options, &mut BufWriter::new(File::create(output)?))?;
    Ok(())
}
