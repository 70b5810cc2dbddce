//! Writes the JavaScript of a program for browsers: `chaarfm-bindgen PROGRAM.wasm NAME FOLDER`.
//!
//! What wasm-bindgen's own program does with `--target web`, from the same library. Its package also brings servers and
//! drivers of browsers for tests, which a first look would wait for.

use std::env;

use anyhow::Context;
use wasm_bindgen_cli_support::Bindgen;

fn main() -> anyhow::Result<()> {
    let mut arguments = env::args_os().skip(1);
    let mut next = |what: &str| arguments.next().with_context(|| format!("no {what} is given"));
    let (program, name, folder) = (next("program")?, next("name")?, next("folder")?);
    let name = name.to_str().context("the name is not UTF-8")?;
    Bindgen::new().input_path(program).web(true)?.typescript(false).out_name(name).generate(folder)
}
