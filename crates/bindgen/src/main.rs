//! Writes the JavaScript for a browser program: `chaarfm-bindgen PROGRAM.wasm NAME FOLDER`.
//!
//! Does the same as wasm-bindgen's own program with `--target web`, using the same library. The original's package also
//! brings servers and browser drivers for tests, which would delay a first look.

use std::env;

use anyhow::Context;
use wasm_bindgen_cli_support::Bindgen;

fn main() -> anyhow::Result<()> {
    let mut arguments = env::args_os().skip(1);
    let mut next = |what: &str| arguments.next().with_context(|| format!("no {what} is given"));
    let (program, name, folder) = (next("program")?, next("name")?, next("folder")?);
    let name = name.to_str().context("the name is not UTF-8")?;
    let mut bindgen = Bindgen::new();
    bindgen.input_path(program).web(true)?.typescript(false).out_name(name);
    // A loader of a Web Worker does not say where the program is.
    bindgen.omit_default_module_path(false).generate(folder)
}
