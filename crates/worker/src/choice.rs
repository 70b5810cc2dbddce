//! Chooses which of a machine's devices to work on, by their measured speeds.

use chaarfm_protocol::Speeds;

/// Two devices together must be faster than the faster one alone by this factor, because each track takes longer then
/// and the machine is busier.
const WORTH_BOTH: f32 = 1.1;

/// The devices to work on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The CPU alone.
    Cpu,
    /// The GPU alone.
    Gpu,
    /// Both, on different tracks.
    Both,
}

impl Choice {
    /// The faster device, or both where that is faster still. A device without a speed counts as absent.
    #[must_use]
    pub fn of(speeds: &Speeds) -> Self {
        let Speeds { cpu, gpu, both } = *speeds;
        let [cpu, gpu, both] = [cpu, gpu, both].map(Option::unwrap_or_default);
        // A joint speed above the sum of the single speeds is a measuring error on a busy machine.
        let both = both.min(cpu + gpu);
        if both >= WORTH_BOTH * cpu.max(gpu) && both > 0.0 {
            Self::Both
        } else if gpu > cpu {
            Self::Gpu
        } else {
            Self::Cpu
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_one_is_taken_and_both_where_that_is_worth_it() {
        let choice = |cpu, gpu, both| Choice::of(&Speeds { cpu, gpu, both });
        assert_eq!(choice(Some(400.0), Some(120.0), Some(410.0)), Choice::Cpu);
        assert_eq!(choice(Some(400.0), Some(3000.0), Some(3100.0)), Choice::Gpu);
        assert_eq!(choice(Some(400.0), Some(500.0), Some(700.0)), Choice::Both);
        assert_eq!(choice(Some(400.0), Some(20.0), Some(600.0)), Choice::Cpu, "two are not more than their sum");
        assert_eq!(choice(Some(400.0), None, None), Choice::Cpu);
        assert_eq!(choice(None, Some(1.0), None), Choice::Gpu);
        assert_eq!(choice(None, None, None), Choice::Cpu);
        assert_eq!(choice(Some(f32::NAN), Some(10.0), None), Choice::Cpu, "what is no number decides nothing");
    }
}
