//! Which of a machine's devices to work on, by what they have shown.

use chaarfm_protocol::Speeds;

/// Two devices at once must do this much more than the faster one alone: each track takes longer then, and the machine is
/// busier.
const WORTH_BOTH: f32 = 1.1;

/// What to work on.
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
    /// The faster of both; both where that is faster still. A device without a speed is not there.
    #[must_use]
    pub fn of(speeds: &Speeds) -> Self {
        let Speeds { cpu, gpu, both } = *speeds;
        let [cpu, gpu, both] = [cpu, gpu, both].map(Option::unwrap_or_default);
        // More than both do alone is an accident of measuring on a machine that is busy with something else.
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
