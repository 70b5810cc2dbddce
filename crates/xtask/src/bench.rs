//! Times each stage of the analysis, and the whole side by side with the peers.

use std::path::PathBuf;

use clap::Args;

use crate::{
    build::{self, MEASURE},
    run::{program, root, run, target_dir},
    tools,
};

#[derive(Args)]
pub(crate) struct BenchArguments {
    /// Music to time with; by default the repository's own fixture, which is too short for meaningful numbers.
    files: Vec<PathBuf>,
    /// A Python environment with the peers (see tests/peers/README.md).
    #[arg(long)]
    python: Option<PathBuf>,
    /// Number of the tab's Web Workers to time with; may be given several times.
    #[arg(long, default_values_t = [1])]
    tab: Vec<usize>,
    /// Time this machine's GPU as well.
    #[arg(long)]
    gpu: bool,
    /// Skip the individual stages.
    #[arg(long)]
    only_side_by_side: bool,
}

pub(crate) fn bench(arguments: &BenchArguments) -> anyhow::Result<()> {
    tools::install_browser()?;
    build::build(true)?;
    let measuring = ["build", "--release", "--bin", "network", "--bin", "side_by_side"];
    run(build::native_release(&measuring).args(MEASURE))?;
    if !arguments.only_side_by_side {
        run(build::native_release(&["bench", "--bench", "stages"]).args(MEASURE))?;
    }
    let side_by_side = target_dir().join("release").join("side_by_side");
    let mut command = program(&side_by_side.to_string_lossy(), &[]);
    command.args(arguments.tab.iter().map(|workers| format!("--tab={workers}")));
    if arguments.gpu {
        command.arg("--gpu");
    }
    if let Some(python) = &arguments.python {
        command.arg("--python").arg(std::path::absolute(python)?);
    }
    if arguments.files.is_empty() {
        command.arg(root().join("tests/fixtures/music/band.mp3"));
    }
    for file in &arguments.files {
        command.arg(std::path::absolute(file)?);
    }
    run(&mut command)
}
