//! Moves a database to another one through a file with a JSON object on each line: first a head with the row counts, then
//! every session, job and vector, last the counts again and the hash of all lines before.
//!
//! Only a page is held in memory at a time. The file is read twice: first to verify it, then to import it.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::{
    database::Database,
    store::Store,
    transfer::{Kind, Progress, Record, RecordCounts},
};

/// Version of the file's format.
const VERSION: u32 = 1;

/// Rows read, and records written, at a time.
const PAGE_ROWS: u32 = 500;

/// Longest line accepted: a record contains a vector of some hundred numbers and texts of some hundred characters.
const MAX_LINE_BYTES: u64 = 1024 * 1024;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    chaarfm_database: u32,
    /// Identifies the file, so that an interrupted import can continue.
    export: String,
    #[serde(flatten)]
    record_counts: RecordCounts,
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
struct End {
    #[serde(flatten)]
    record_counts: RecordCounts,
    /// Hash of all bytes before this line.
    blake3: String,
}

/// Any other line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Record(Box<Record>),
    End { end: End },
}

/// Writes everything in a database to a file. The file appears when it is complete, and only its owner may read it, as it
/// contains session codes and lease tokens.
///
/// # Errors
/// When there is no database, it cannot be read, or the file cannot be written; the error names it.
pub async fn export_database(database: &Database, file: &Path) -> anyhow::Result<RecordCounts> {
    if let Database::Sqlite(path) = database {
        ensure!(path.exists(), "{} is missing: there is no database to export", path.display());
    }
    let (store, _lock) = Store::open_alone(database).await?;
    let named = || format!("{}", file.display());
    let folder = file.parent().unwrap_or(Path::new(""));
    // Temporary files are readable for their owner only.
    let partial = tempfile::Builder::new().suffix(".partial").tempfile_in(folder).with_context(named)?;
    let (partial, record_counts) = write_all(&store, partial).await.with_context(named)?;
    partial.persist(file).with_context(named)?;
    store.close().await;
    Ok(record_counts)
}

async fn write_all(store: &Store, file: NamedTempFile) -> anyhow::Result<(NamedTempFile, RecordCounts)> {
    let mut out = Lines { file: BufWriter::new(file), hash: blake3::Hasher::new() };
    let mut snapshot = store.snapshot().await?;
    let export = format!("{:032x}", rand::random::<u128>());
    let expected = snapshot.record_counts().await?;
    out.write(&Head { chaarfm_database: VERSION, export, record_counts: expected })?;
    let mut record_counts = RecordCounts::default();
    for kind in Kind::ALL {
        let mut after = i64::MIN;
        loop {
            let records = snapshot.page(kind, after, PAGE_ROWS).await?;
            let Some(last) = records.last() else { break };
            after = last.id();
            for record in records {
                record_counts.count(&record);
                out.write(&Line::Record(Box::new(record)))?;
            }
        }
    }
    snapshot.close().await;
    ensure!(record_counts == expected, "the database said it has {expected}, and gave {record_counts}");
    let blake3 = out.hash.finalize().to_hex().to_string();
    out.write(&Line::End { end: End { record_counts, blake3 } })?;
    let file = out.file.into_inner()?;
    file.as_file().sync_all()?;
    Ok((file, record_counts))
}

struct Lines {
    file: BufWriter<NamedTempFile>,
    hash: blake3::Hasher,
}

impl Lines {
    fn write(&mut self, line: &impl Serialize) -> anyhow::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.hash.update(&bytes);
        Ok(self.file.write_all(&bytes)?)
    }
}

/// Imports a file into an empty database. An interrupted import continues where it stopped.
///
/// # Errors
/// When the file is damaged (noticed before anything is written), when the database is not empty or cannot be written, or
/// when it ends up with other row counts than the file states.
pub async fn import_database(database: &Database, file: &Path) -> anyhow::Result<RecordCounts> {
    let named = || format!("{}", file.display());
    let expected = verify(file).with_context(named)?;
    let (store, _lock) = Store::open_alone(database).await?;
    read_all(&store, file).await.with_context(named)?;
    let record_counts = store.record_counts().await?;
    ensure!(record_counts == expected, "the file has {expected}, and the database now {record_counts}");
    store.build_indexes().await.with_context(named)?;
    store.close().await;
    Ok(record_counts)
}

/// Reads the file once and checks that nothing is missing or changed.
fn verify(path: &Path) -> anyhow::Result<RecordCounts> {
    let mut hash = blake3::Hasher::new();
    let mut reader = Reader::open(path)?;
    hash.update(reader.line.as_bytes());
    let mut record_counts = RecordCounts::default();
    while let Some(line) = reader.next()? {
        match line {
            Line::Record(record) => {
                record_counts.count(&record);
                hash.update(reader.line.as_bytes());
            }
            Line::End { end } => {
                ensure!(
                    end.record_counts == record_counts && reader.head.record_counts == record_counts,
                    "it has {record_counts}, and should have {}",
                    end.record_counts
                );
                ensure!(end.blake3 == hash.finalize().to_hex().as_str(), "it has been changed");
                return Ok(record_counts);
            }
        }
    }
    bail!("it ends too early")
}

async fn read_all(store: &Store, path: &Path) -> anyhow::Result<()> {
    let mut reader = Reader::open(path)?;
    let export = reader.head.export.clone();
    let total = reader.head.record_counts.records();
    let done = store.begin_import(&export).await?;
    let mut read = 0;
    let mut batch = Vec::new();
    loop {
        let record = match reader.next()? {
            Some(Line::Record(record)) => Some(*record),
            Some(Line::End { .. }) | None => None,
        };
        let is_end = record.is_none();
        if let Some(record) = record {
            read += 1;
            if read > done {
                batch.push(record);
            }
        }
        if batch.len() >= PAGE_ROWS as usize || (is_end && !batch.is_empty()) {
            store.import(&export, &batch, Progress { records: read, total }).await?;
            batch.clear();
        }
        if is_end {
            return Ok(());
        }
    }
}

struct Reader {
    file: BufReader<File>,
    head: Head,
    /// The current line, as it stands in the file.
    line: String,
}

impl Reader {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        let line = read_line(&mut file)?.context("it is empty")?;
        let head: Head = serde_json::from_str(&line).context("this is no export of a database")?;
        let version = head.chaarfm_database;
        ensure!(version == VERSION, "it is of version {version}, and this program reads version {VERSION}");
        Ok(Self { file, head, line })
    }

    fn next(&mut self) -> anyhow::Result<Option<Line>> {
        let Some(line) = read_line(&mut self.file)? else { return Ok(None) };
        self.line = line;
        Ok(Some(serde_json::from_str(&self.line)?))
    }
}

/// Reads the next line, including its line end; none at the end of the file.
fn read_line(file: &mut impl BufRead) -> anyhow::Result<Option<String>> {
    use std::io::Read;
    let mut line = String::new();
    file.take(MAX_LINE_BYTES).read_line(&mut line)?;
    match line.as_bytes() {
        [] => Ok(None),
        [.., b'\n'] => Ok(Some(line)),
        _ => bail!("a line is cut off or longer than {MAX_LINE_BYTES} bytes"),
    }
}
