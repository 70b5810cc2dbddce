//! Creates the folder to embed, so that the server compiles before the pages are built. A release embeds the pages and is compiled
//! again after they were built; in development they are read when they are asked for.

use std::{env, fs, path::Path};

fn main() {
    let crate_folder = env::var_os("CARGO_MANIFEST_DIR").expect("cargo names the crate's folder");
    let pages = Path::new(&crate_folder).join("../../dist");
    fs::create_dir_all(&pages).expect("the pages' folder can be created");
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("PROFILE").is_some_and(|profile| profile == "release") {
        println!("cargo::rerun-if-changed={}", pages.display());
    }
}
