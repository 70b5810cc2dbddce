//! Attacks a coordinator and measures its memory and its answers meanwhile.

use crate::{
    build::{self, MEASURE},
    run::{program, run, target_dir},
};

pub(crate) fn siege() -> anyhow::Result<()> {
    run(build::native_release(&["build", "--release", "--bin", "chaarfm-server", "--bin", "siege"]).args(MEASURE))?;
    run(&mut program(&target_dir().join("release").join("siege").to_string_lossy(), &[]))
}
