//! The newest notices of a session. Each level has its own capacity: a long run stores a track every second, but a failure
//! of an hour ago must stay visible.

use std::collections::VecDeque;

use chaarfm_api::LogLine;
use chaarfm_domain::LogLevel;

/// Maximum number of notices kept per level.
pub(super) const MAX_LINES_PER_LEVEL: usize = 50;

/// Notices, the newest first.
#[derive(Default)]
pub(super) struct Notices(VecDeque<LogLine>);

impl Notices {
    /// Adds a notice. If its level is full, the oldest one of that level is dropped.
    pub(super) fn add(&mut self, line: LogLine) {
        let level = line.level;
        self.0.push_front(line);
        let mut room = Room::default();
        self.0.retain(|line| line.level != level || room.take(level));
    }

    pub(super) fn lines(&self) -> Vec<LogLine> {
        self.0.iter().cloned().collect()
    }
}

/// The capacity left in each level.
#[derive(Default)]
pub(super) struct Room([usize; 4]);

impl Room {
    /// Counts one more notice. Returns false when its level is full.
    pub(super) fn take(&mut self, level: LogLevel) -> bool {
        let taken = match level {
            LogLevel::Info => &mut self.0[0],
            LogLevel::Success => &mut self.0[1],
            LogLevel::Warning => &mut self.0[2],
            LogLevel::Error => &mut self.0[3],
        };
        let has_room = *taken < MAX_LINES_PER_LEVEL;
        *taken += usize::from(has_room);
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_level_takes_the_room_of_another() {
        let levels = [LogLevel::Info, LogLevel::Success, LogLevel::Warning, LogLevel::Error];
        let mut notices = Notices::default();
        let mut at_ms = 0;
        for flood in levels {
            for level in levels.into_iter().filter(|level| *level != flood) {
                at_ms += 1;
                notices.add(LogLine { at_ms, level, message: "kept".into() });
            }
            for _ in 0..10 * MAX_LINES_PER_LEVEL {
                at_ms += 1;
                notices.add(LogLine { at_ms, level: flood, message: "many".into() });
            }
            let lines = notices.lines();
            for level in levels {
                let kept = lines.iter().filter(|line| line.level == level).count();
                let expected =
                    if level == flood { MAX_LINES_PER_LEVEL..=MAX_LINES_PER_LEVEL } else { 1..=MAX_LINES_PER_LEVEL };
                assert!(expected.contains(&kept), "{level:?}: {kept}");
            }
            assert!(lines.is_sorted_by(|newer, older| newer.at_ms > older.at_ms));
            assert_eq!(lines[0].at_ms, at_ms);
            assert!(lines.iter().any(|line| line.message == "kept"));
        }
    }
}
