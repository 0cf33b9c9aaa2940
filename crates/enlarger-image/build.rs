//! Compiles the piece of C that stands between this crate and libjpeg-turbo.

fn main() {
    let source = "src/decode/jpeg/codec.c";
    println!("cargo::rerun-if-changed={source}");
    // Where `turbojpeg-sys` put the headers of the library that it built.
    let headers = std::env::var("DEP_TURBOJPEG_INCLUDE").expect("turbojpeg-sys tells where its headers are");
    cc::Build::new().file(source).includes(headers.split(',')).compile("enlarger_jpeg");
}
