//! The messages between the worker and the GPU's process: one line of JSON each, followed by numbers as little-endian
//! 32-bit floats.

use std::io::{self, BufRead, Read, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Longest line, in bytes.
const MAX_LINE_BYTES: u64 = 4096;

/// Most numbers after a line: enough for a few thousand patches.
const MAX_NUMBERS: usize = 1 << 24;

/// A request of the worker.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ToGpu {
    /// Open a model and check its known answer.
    Open { model: String },
    /// Compute the patches of this many log-mel numbers, which follow.
    Run { model: String, numbers: usize },
}

/// An answer of the process.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum FromGpu {
    /// Sent first, without a request: the GPU found.
    Found { name: String, driver: String, is_software_gpu: bool },
    /// The model computes correctly.
    Opened,
    /// The outputs follow: for each patch this many numbers of the embedding and this many tags.
    Computed { patches: usize, embedding: usize, tags: usize },
    /// There is no GPU, or it does not work.
    Failed { reason: String },
}

/// Sends a message and the numbers that belong to it.
pub(super) fn write(to: &mut impl Write, message: &impl Serialize, numbers: &[f32]) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(message)?;
    bytes.push(b'\n');
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    to.write_all(&bytes)?;
    to.flush()
}

/// Waits for a message.
pub(super) fn read<M: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<M> {
    let mut line = Vec::new();
    from.take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&line)?)
}

/// Reads this many numbers.
pub(super) fn read_numbers(from: &mut impl Read, count: usize) -> io::Result<Vec<f32>> {
    if count > MAX_NUMBERS {
        return Err(io::Error::other(format!("{count} numbers; at most {MAX_NUMBERS} are taken")));
    }
    let mut bytes = vec![0; 4 * count];
    from.read_exact(&mut bytes)?;
    let (numbers, _) = bytes.as_chunks::<4>();
    Ok(numbers.iter().map(|&number| f32::from_le_bytes(number)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_numbers_come_as_they_were_sent() {
        let mut pipe = Vec::new();
        let run = ToGpu::Run { model: "m".into(), numbers: 3 };
        write(&mut pipe, &run, &[1.5, -0.0, f32::MIN_POSITIVE]).unwrap();
        write(&mut pipe, &ToGpu::Open { model: "n".into() }, &[]).unwrap();
        let mut pipe = &*pipe;
        assert_eq!(read::<ToGpu>(&mut pipe).unwrap(), run);
        assert_eq!(read_numbers(&mut pipe, 3).unwrap(), [1.5, -0.0, f32::MIN_POSITIVE]);
        assert_eq!(read::<ToGpu>(&mut pipe).unwrap(), ToGpu::Open { model: "n".into() });
        assert_eq!(read::<ToGpu>(&mut pipe).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn nothing_that_is_sent_takes_more_memory_than_the_limits_allow() {
        let endless = || io::BufReader::new(io::repeat(b'x'));
        assert!(read::<ToGpu>(&mut endless()).is_err());
        let error = read_numbers(&mut endless(), MAX_NUMBERS + 1).unwrap_err().to_string();
        assert_eq!(error, "16777217 numbers; at most 16777216 are taken");
    }
}
