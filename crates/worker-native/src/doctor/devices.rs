//! Checks of each device: whether it gives the known answer, and its speed.

use chaarfm_analysis::DeviceInfo;
use chaarfm_doctor::Check;

use crate::devices::{Memory, Trials};

/// Tries all devices. Blocks.
pub(super) fn checks(memory: &Memory) -> Vec<Check> {
    match Trials::of_this_machine(memory) {
        Ok(trials) => told(&trials),
        Err(error) => {
            let advice = "this program does not compute correctly here: please report it";
            vec![Check::failed("CPU", error.to_string(), advice)]
        }
    }
}

fn told(trials: &Trials) -> Vec<Check> {
    let mut checks = vec![Check::ok("CPU", right(&trials.cpu, trials.speeds.cpu)), gpu(trials)];
    let auto: Vec<&str> = trials.auto.iter().map(|backend| backend.name()).collect();
    let both =
        trials.speeds.both.map(|both| format!("; both at once do {both:.0} patches a second")).unwrap_or_default();
    let note = trials.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
    checks.push(Check::ok("auto", format!("takes {}{note}{both}", auto.join(" and "))));
    checks
}

fn gpu(trials: &Trials) -> Check {
    const NAME: &str = "GPU";
    match (&trials.gpu, &trials.gpu_failure) {
        (Some(gpu), Some(reason)) => {
            let advice = "install the newest driver of its maker; until then the CPU does the work";
            Check::warning(NAME, format!("{}: {reason}", name(gpu)), advice)
        }
        (Some(gpu), None) if gpu.is_software_gpu => {
            let advice =
                "if this machine has a graphics card, install its driver; the CPU does the work, which is faster";
            Check::warning(NAME, format!("imitated by the processor: {}", right(gpu, trials.speeds.gpu)), advice)
        }
        (Some(gpu), None) => Check::ok(NAME, right(gpu, trials.speeds.gpu)),
        // A machine without a GPU is a good worker, too.
        (None, reason) => Check::ok(NAME, format!("none: {}", reason.as_deref().unwrap_or("not found"))),
    }
}

fn right(device: &DeviceInfo, speed: Option<f32>) -> String {
    let speed = speed.map(|speed| format!(", {speed:.0} patches a second")).unwrap_or_default();
    format!("{}: gives the known answer{speed}", name(device))
}

fn name(device: &DeviceInfo) -> String {
    let driver = if device.driver.is_empty() { String::new() } else { format!(", driver {}", device.driver) };
    format!("{device}{driver}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chaarfm_analysis::Backend;
    use chaarfm_doctor::State;

    use super::*;
    use crate::{
        devices::Place,
        gpu::{Gpu, stand_in::StandIn},
    };

    fn with(found: Result<Arc<Gpu>, String>) -> Vec<Check> {
        told(&Trials::of(Place::Cpu(Backend::Flex), found, &Memory::none()).unwrap())
    }

    #[test]
    fn a_gpu_that_is_the_processor_is_told_apart() {
        let software = StandIn { is_software: true, knows_the_answer: true, ..StandIn::default() };
        let checks = with(Ok(software.found()));
        assert_eq!(checks[1].state, State::Warning);
        let says = "imitated by the processor: wgpu (Stand-in), driver 1: gives the known answer, ";
        assert!(checks[1].found.starts_with(says), "{checks:?}");
        assert!(checks[2].found.starts_with("takes flex; Stand-in is software"), "{checks:?}");
    }

    #[test]
    fn a_gpu_that_works_breaks_or_is_not_there() {
        let works = with(Ok(StandIn { knows_the_answer: true, ..StandIn::default() }.found()));
        assert_eq!((works[0].state, works[1].state), (State::Ok, State::Ok));
        let breaks = with(Ok(StandIn { breaks_after: 1, ..StandIn::default() }.found()));
        assert_eq!((breaks[0].state, breaks[1].state), (State::Ok, State::Warning));
        assert!(breaks[1].found.contains("it broke") && breaks[1].advice.is_some(), "{breaks:?}");
        let none = with(Err("no adapter".into()));
        assert_eq!(none[1], Check::ok("GPU", "none: no adapter"));
    }
}
