//! How many open files and connections the program may have.

#[cfg(unix)]
use limits_unix::limits;
#[cfg(windows)]
use limits_windows::limits;

use crate::Check;

#[cfg(unix)]
mod limits_unix {
    use std::io;

    /// The current limit, and the highest one the program can set.
    pub(super) fn limits() -> io::Result<(u64, u64)> {
        rlimit::Resource::NOFILE.get()
    }
}

#[cfg(windows)]
mod limits_windows {
    use std::io;

    /// The current limit, and the highest one the program can set. It does not count connections.
    pub(super) fn limits() -> io::Result<(u64, u64)> {
        /// The C library's maximum.
        const MOST: u64 = 8192;
        Ok((u64::from(rlimit::getmaxstdio()), MOST))
    }
}

/// Compares the limit with `wanted`, the number the program may need.
#[must_use]
pub fn open_files(wanted: u64) -> Check {
    const NAME: &str = "open files";
    let in_words = |limit| if limit >= 1 << 30 { "no limit".to_owned() } else { format!("{limit}") };
    match limits() {
        Ok((now, most)) => judge(NAME, wanted, most, &format!("{}, and up to {}", in_words(now), in_words(most))),
        Err(error) => Check::warning(NAME, format!("limit unknown: {error}"), "see what `ulimit -n` says"),
    }
}

fn judge(name: &str, wanted: u64, most: u64, found: &str) -> Check {
    if most >= wanted {
        return Check::ok(name, found);
    }
    let advice =
        format!("{wanted} may be needed: raise the limit, by `ulimit -Hn`, `LimitNOFILE=` of the service or the like");
    Check::warning(name, found, advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::State;

    #[test]
    fn too_few_is_a_warning() {
        assert_eq!(judge("open files", 1000, 999, "999").state, State::Warning);
        assert_eq!(judge("open files", 1000, 1000, "1000").state, State::Ok);
        assert_eq!(open_files(1).state, State::Ok);
    }
}
