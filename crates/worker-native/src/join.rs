//! Joining a session: asks for what is missing, opens the device, lives until it is told to stop.

use std::{
    cell::RefCell,
    fmt::Display as Text,
    io::{IsTerminal, stderr, stdin},
    pin::pin,
    process::ExitCode,
    str::FromStr,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use chaarfm_protocol::{PairingCode, WorkerKind, limits::MAX_AUDIO_BYTES, view::LogLevel};
use chaarfm_worker::{Address, Config, Event, Exit, Status, run as live};
use clap::{CommandFactory, error::ErrorKind};

use crate::{
    analyser::{Analyser, Breakdown, DeviceChoice, Opened},
    cli::{Cli, JoinArgs},
    display::{self, Display},
    interrupt,
    platform::Native,
};

/// The coordinator refused the worker.
const REFUSED_EXIT_CODE: u8 = 3;

/// Analyses that may stand still in a run. Each leaves a thread behind, which may keep a core busy for good; a worker that is
/// alone gets the file three times.
const MAX_STALLS: u32 = 12;

/// Longest wait for a device that is opened again after an analysis has stood still. It takes a minute at most, or for ever
/// when it was the device that stood still.
const REOPEN_LIMIT_SECONDS: u64 = 120;

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

/// Lives on the device that was chosen; on the CPU when that was a GPU which nobody asked for and which stops working. Begins
/// anew when an analysis stands still.
async fn join(address: Address, code: PairingCode, choice: DeviceChoice, display: &Display) -> Result<ExitCode> {
    let mut interrupted = pin!(interrupt::first()?);
    let mut course = Course { choice, why: None, retreat: None, stalls: 0 };
    let (mut done, mut failed) = (0, 0);
    loop {
        display.show(Event::Status(&Status::starting()));
        display.show(Event::Log(LogLevel::Info, "starting the device"));
        let (analyser, mut broken) = tokio::select! {
            started = Analyser::start(course.choice) => started?,
            () = tokio::time::sleep(Duration::from_secs(REOPEN_LIMIT_SECONDS)), if course.stalls > 0 => {
                let reason = format!("after an analysis stood still it did not open for {REOPEN_LIMIT_SECONDS} s");
                let line = course.go_on(Breakdown::Device(reason))?;
                display.show(Event::Log(LogLevel::Warning, &line));
                continue;
            }
            () = &mut interrupted => return Ok(ExitCode::SUCCESS),
        };
        let Opened { device, note, retreat } = analyser.opened.clone();
        course.retreat = retreat;
        let device_note = course.why.clone().or(note);
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
                Some(found) = broken.recv() => *breakdown.borrow_mut() = Some(found),
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
        let end = match (&exit, breakdown.into_inner()) {
            (Exit::Refused { .. }, _) => Ok(ExitCode::from(REFUSED_EXIT_CODE)),
            (Exit::Stopped, None) => Ok(ExitCode::SUCCESS),
            (Exit::Stopped, Some(breakdown)) => match course.go_on(breakdown) {
                Ok(line) => {
                    display.show(Event::Log(LogLevel::Warning, &line));
                    continue;
                }
                Err(error) => Err(error),
            },
        };
        let reason = exit.reason().map(|reason| format!(" by the coordinator: {reason}")).unwrap_or_default();
        display.end(&format!("Stopped{reason}. {done} done, {failed} failed."));
        return end;
    }
}

/// What to compute on, through all breakdowns of a run.
struct Course {
    choice: DeviceChoice,
    /// Why that is not the GPU any more.
    why: Option<String>,
    /// What is left when the device that was opened last stops working.
    retreat: Option<DeviceChoice>,
    /// Analyses that have stood still.
    stalls: u32,
}

impl Course {
    /// Decides how to go on after a breakdown, and says it in words. A file at which an analysis stands still is no reason to
    /// leave the device.
    ///
    /// # Errors
    /// When the run has to end.
    fn go_on(&mut self, breakdown: Breakdown) -> Result<String> {
        match breakdown {
            Breakdown::Stall(reason) => {
                self.stalls += 1;
                ensure!(
                    self.stalls <= MAX_STALLS,
                    "more than {MAX_STALLS} analyses have stood still; the last: {reason}"
                );
                Ok(format!("{reason}, so its thread is left behind and a new one started"))
            }
            Breakdown::Device(reason) => {
                let Some(retreat) = self.retreat.take() else { bail!("the device stopped working: {reason}") };
                (self.choice, self.why) = (retreat, Some(format!("the GPU stopped working: {reason}")));
                Ok(format!("the GPU stopped working, so on with the CPU: {reason}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The course of a run on a GPU that nobody asked for.
    fn on_a_gpu() -> Course {
        Course { choice: DeviceChoice::Auto, why: None, retreat: Some(cpu()), stalls: 0 }
    }

    fn cpu() -> DeviceChoice {
        "flex".parse().unwrap()
    }

    #[test]
    fn a_file_that_stands_still_neither_ends_the_run_nor_costs_it_the_gpu() {
        let stall = || Breakdown::Stall("song.mp3 stands still".to_owned());
        let mut course = on_a_gpu();
        for _ in 0..MAX_STALLS {
            let line = course.go_on(stall()).unwrap();
            assert!(line.starts_with("song.mp3 stands still, so"), "{line}");
        }
        assert_eq!((course.choice, course.retreat), (DeviceChoice::Auto, Some(cpu())));
        assert_eq!(course.why, None);
        let end = course.go_on(stall()).unwrap_err().to_string();
        assert!(end.starts_with("more than 12 analyses have stood still"), "{end}");
    }

    #[test]
    fn a_device_that_stops_working_leaves_the_cpu_once() {
        let broken = || Breakdown::Device("lost".to_owned());
        let mut course = on_a_gpu();
        assert_eq!(course.go_on(broken()).unwrap(), "the GPU stopped working, so on with the CPU: lost");
        assert_eq!((course.choice, course.why.as_deref()), (cpu(), Some("the GPU stopped working: lost")));
        assert_eq!(course.go_on(broken()).unwrap_err().to_string(), "the device stopped working: lost");
    }
}
