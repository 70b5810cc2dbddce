//! Joining a session: asks for what is missing, opens the device, lives until it is told to stop.

use std::{
    cell::RefCell,
    fmt::Display as Text,
    io::{IsTerminal, stderr, stdin},
    pin::pin,
    process::ExitCode,
    str::FromStr,
};

use anyhow::{Context, Result};
use chaarfm_protocol::{PairingCode, WorkerKind, limits::MAX_AUDIO_BYTES, view::LogLevel};
use chaarfm_worker::{Address, Config, Event, Exit, Status, run as live};
use clap::{CommandFactory, error::ErrorKind};

use crate::{
    analyser::{Analyser, DeviceChoice, Opened},
    cli::{Cli, JoinArgs},
    display::{self, Display},
    interrupt,
    platform::Native,
};

/// The coordinator refused the worker.
const REFUSED_EXIT_CODE: u8 = 3;

/// Joins and works until Ctrl-C, the end of the session or the end of the device.
pub(crate) fn run(args: JoinArgs, plain: bool) -> Result<ExitCode> {
    let (address, code) = whom(args.url, args.code)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = runtime.block_on(join(address, code, args.device, &Display::new(plain)));
    // Not to wait for the name of a host that the system still looks up.
    runtime.shutdown_background();
    end
}

/// Whom to work for. Asks on a terminal for what is missing; elsewhere says so and exits.
fn whom(url: Option<Address>, code: Option<PairingCode>) -> Result<(Address, PairingCode)> {
    let code = code.or_else(|| url.as_ref().and_then(Address::code));
    let missing = [("--url", url.is_none()), ("--code", code.is_none())];
    let missing: Vec<_> = missing.into_iter().filter_map(|(name, is)| is.then_some(name)).collect();
    let can_ask = stdin().is_terminal() && stderr().is_terminal();
    if !missing.is_empty() && !can_ask {
        let message = format!("missing, and nobody to ask: {}", missing.join(", "));
        Cli::command().error(ErrorKind::MissingRequiredArgument, message).exit();
    }
    let address = url.map_or_else(|| ask("The coordinator's address"), Ok)?;
    let code = code.or(address.code()).map_or_else(|| ask("The session's pairing code"), Ok)?;
    Ok((address, code))
}

/// Asks until the answer is valid.
fn ask<T: Clone + Text + FromStr<Err: Text>>(question: &str) -> Result<T> {
    dialoguer::Input::new().with_prompt(question).interact_text().context("no answer")
}

/// Lives on the device that was chosen; on the CPU when that was a GPU which nobody asked for and which stops working.
async fn join(address: Address, code: PairingCode, choice: DeviceChoice, display: &Display) -> Result<ExitCode> {
    let mut interrupted = pin!(interrupt::first()?);
    let (mut choice, mut why) = (choice, None);
    let (mut done, mut failed) = (0, 0);
    loop {
        display.show(Event::Status(&Status::starting()));
        display.show(Event::Log(LogLevel::Info, "starting the device"));
        let (analyser, mut broken) = tokio::select! {
            started = Analyser::start(choice) => started?,
            () = &mut interrupted => return Ok(ExitCode::SUCCESS),
        };
        let Opened { device, note, retreat } = analyser.opened.clone();
        let device_note = why.or(note);
        display.show(Event::Log(LogLevel::Info, &display::device(Some(&device), device_note.as_deref())));

        let platform = Native::new(analyser)?;
        let config = Config {
            address: address.clone(),
            code,
            kind: WorkerKind::Native,
            agent: concat!("chaarfm-worker/", env!("CARGO_PKG_VERSION")).to_owned(),
            device,
            device_note,
            max_audio_bytes: MAX_AUDIO_BYTES,
        };
        let breakdown = RefCell::new(None);
        let stop = async {
            tokio::select! {
                () = &mut interrupted => {}
                Some(reason) = broken.recv() => *breakdown.borrow_mut() = Some(reason),
            }
        };
        let last = RefCell::new(Status::starting());
        let exit = live(&platform, config, stop, |event| {
            if let Event::Status(status) = event {
                last.replace(status.clone());
            }
            display.show(event);
        })
        .await;

        let status = last.into_inner();
        (done, failed) = (done + status.done, failed + status.failed);
        let breakdown = breakdown.into_inner();
        if let (Exit::Stopped, Some(reason), Some(retreat)) = (&exit, &breakdown, retreat) {
            let line = format!("the GPU stopped working, so on with the CPU: {reason}");
            display.show(Event::Log(LogLevel::Warning, &line));
            (choice, why) = (retreat, Some(format!("the GPU stopped working: {reason}")));
            continue;
        }
        let reason = exit.reason().map(|reason| format!(" by the coordinator: {reason}")).unwrap_or_default();
        display.end(&format!("Stopped{reason}. {done} done, {failed} failed."));
        return match (exit, breakdown) {
            (Exit::Refused { .. }, _) => Ok(ExitCode::from(REFUSED_EXIT_CODE)),
            (Exit::Stopped, None) => Ok(ExitCode::SUCCESS),
            (Exit::Stopped, Some(reason)) => anyhow::bail!("the device stopped working: {reason}"),
        };
    }
}
