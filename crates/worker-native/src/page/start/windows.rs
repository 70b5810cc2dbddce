//! Windows opens a new console for a double-clicked command-line program.

use std::{env, os::windows::process::CommandExt, process::Command};

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, get_current_pid};

/// The program that starts double-clicked programs.
const DESKTOP: &str = "explorer.exe";

/// `DETACHED_PROCESS` of the Windows API: without a console.
const DETACHED_PROCESS: u32 = 0x8;

pub(super) fn was_it() -> bool {
    parent_name().is_some_and(|name| name.eq_ignore_ascii_case(DESKTOP))
}

fn parent_name() -> Option<String> {
    let mut system = System::new();
    let own = get_current_pid().ok()?;
    let only_names = ProcessRefreshKind::nothing();
    let forget_the_ended = true;
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[own]), forget_the_ended, only_names);
    let parent = system.process(own)?.parent()?;
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[parent]), forget_the_ended, only_names);
    Some(system.process(parent)?.name().to_string_lossy().into_owned())
}

pub(super) fn start_without_console() -> bool {
    let Ok(own) = env::current_exe() else { return false };
    let arguments = env::args_os().skip(1);
    Command::new(own).arg("--page").args(arguments).creation_flags(DETACHED_PROCESS).spawn().is_ok()
}
