//! `chaarfm-worker update`: installs a newer version of this program from a built-in or configured address.
//!
//! Everything is verified first: the release by its signature, the executable by its size and hash, and by a test
//! start. Until then the installed program stays as it is. It is then replaced in one step, and the previous one kept.

mod download;
mod install;
mod release;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use minisign_verify::PublicKey;
use semver::Version;
use url::Url;

use self::{install::Installation, release::Release};
use crate::network::Network;

/// The address and key built into executables of an official release.
const BUILT_IN: (Option<&str>, Option<&str>) = (option_env!("CHAARFM_UPDATE_URL"), option_env!("CHAARFM_UPDATE_KEY"));

/// What to do.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Only say whether there is a newer version.
    #[arg(long, conflicts_with = "rollback")]
    check: bool,

    /// Go back to the version before the last update; once more, and it is forward again.
    #[arg(long)]
    rollback: bool,

    /// Address of the signed release, such as https://host/release.json; its signature is there with .minisig at its end.
    #[arg(long, value_name = "URL", env = "CHAARFM_UPDATE_URL")]
    from: Option<Url>,

    /// Public key that releases are signed with, as minisign writes it: RW and 54 more letters and digits.
    #[arg(long, value_name = "KEY", env = "CHAARFM_UPDATE_KEY")]
    key: Option<String>,
}

/// The address of releases, and the key that signs them.
#[derive(Debug)]
pub(crate) struct Source {
    address: Url,
    key: PublicKey,
}

impl Source {
    /// The address and key asked for, or else the built-in ones.
    ///
    /// # Errors
    /// When one of them is missing or invalid.
    pub(crate) fn new(from: Option<Url>, key: Option<&str>) -> Result<Self> {
        let built_in = BUILT_IN.0.map(str::parse).transpose().context("the address that is built in")?;
        let (Some(address), Some(key)) = (from.or(built_in), key.or(BUILT_IN.1)) else {
            bail!(
                "updates are off: nothing is built in here that says where they are and who signs them. --from and --key do; \
                 or update the program in the way it was installed"
            );
        };
        let key = PublicKey::from_base64(key.trim()).ok().context("--key is no public key of minisign")?;
        Ok(Self { address, key })
    }

    /// The newest release, verified.
    ///
    /// # Errors
    /// When it cannot be fetched or is not signed by the key.
    pub(crate) async fn newest(&self, network: &Network) -> Result<Release> {
        release::fetch(network, &self.address, &self.key).await
    }
}

/// Updates this program, or says which version is available.
///
/// # Errors
/// When that fails; the program is then unchanged.
pub(crate) fn run(args: &UpdateArgs) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let line = runtime.block_on(update(args));
    runtime.shutdown_background();
    writeln!(io::stdout(), "{}", line?)?;
    Ok(ExitCode::SUCCESS)
}

async fn update(args: &UpdateArgs) -> Result<String> {
    let installation = Installation::of_this_program()?;
    if args.rollback {
        installation.roll_back().await?;
        return Ok(
            "the version before is back; workers that run now go on as they are until they are started anew".into()
        );
    }
    let source = Source::new(args.from.clone(), args.key.as_deref())?;
    let network = Network::of_system(false)?;
    let release = source.newest(&network).await?;
    let here: Version = env!("CARGO_PKG_VERSION").parse().context("the version of this program")?;
    if release.version == here {
        return Ok(format!("chaarfm-worker {here} is the newest version"));
    }
    if release.version < here {
        bail!("the release there, {}, is older than this program, {here}: nothing is changed", release.version);
    }
    if args.check {
        return Ok(format!(
            "chaarfm-worker {} is there, this is {here}; chaarfm-worker update gets it",
            release.version
        ));
    }
    let build = release.build_for_this_system()?;
    let new = download::fetch(&network, &source.address, build, installation.folder()).await?;
    installation.replace(new).await?;
    Ok(format!(
        "updated from {here} to {}; chaarfm-worker update --rollback goes back. Workers that run now go on as they are until \
         they are started anew",
        release.version
    ))
}
