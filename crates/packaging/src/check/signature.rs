//! What an application for macOS is signed with, held against what is there. Whose signature it is says Apple alone.
//!
//! What signs has a command for this as well, which refuses every signature without a certificate.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::Path,
};

use anyhow::{Context, bail};
use object::{
    BigEndian, Endianness,
    macho::{self, CsSlot, MachHeader64},
    read::macho::{CodeDirectory, CodeSignature, LoadCommandVariant, MachHeader},
};
use plist::Value;
use sha2::{Digest, Sha256};
use xtask::run::root;

/// What is signed besides the code, and has to be.
const SLOTS: [CsSlot; 5] = [
    macho::CSSLOT_INFOSLOT,
    macho::CSSLOT_REQUIREMENTS,
    macho::CSSLOT_RESOURCEDIR,
    macho::CSSLOT_ENTITLEMENTS,
    macho::CSSLOT_DER_ENTITLEMENTS,
];

/// Where the hashes of an application's files are.
const RESOURCES: &str = "_CodeSignature/CodeResources";

/// What is no resource: it is signed otherwise, or names nothing but a kind.
const NO_RESOURCES: [&str; 4] = [RESOURCES, "Info.plist", "PkgInfo", "MacOS/chaarfm-worker"];

/// The signature of an executable for one kind of processor: it covers every byte before itself and what describes the
/// application, asks for the hardened runtime, and has what the program is entitled to.
pub(super) fn of_executable(slice: &[u8], contents: &Path) -> anyhow::Result<()> {
    let (code, signature) = split(slice)?;
    let mut blobs = BTreeMap::new();
    for blob in signature.blobs() {
        let blob = blob?;
        blobs.insert(blob.slot().0, blob);
    }
    let directory = blobs.get(&macho::CSSLOT_CODEDIRECTORY.0).context("the signature has no code directory")?;
    let directory = directory.code_directory()?.context("the code directory is something else")?;
    covers(&directory, code)?;
    let files = [(macho::CSSLOT_INFOSLOT, "Info.plist"), (macho::CSSLOT_RESOURCEDIR, RESOURCES)];
    let mut signed = BTreeMap::new();
    for (slot, file) in files {
        signed.insert(slot.0, fs::read(contents.join(file)).with_context(|| format!("{file} is missing"))?);
    }
    signed.extend(blobs.iter().filter(|(slot, _)| **slot != 0).map(|(slot, blob)| (*slot, blob.data().to_vec())));
    for slot in SLOTS {
        let bytes = signed.get(&slot.0).with_context(|| format!("the signature has nothing in slot {}", slot.0))?;
        if directory.special_hash(slot)? != &Sha256::digest(bytes)[..] {
            bail!("slot {} of the signature is not what was signed", slot.0);
        }
    }
    let flags = directory.header().flags.get(BigEndian);
    if !flags.contains(macho::CS_RUNTIME) {
        bail!("the signature does not ask for the hardened runtime, but has {:#x}", flags.0);
    }
    let information = Value::from_file(contents.join("Info.plist"))?;
    let identifier = information.as_dictionary().and_then(|values| values.get("CFBundleIdentifier")?.as_string());
    if identifier.map(str::as_bytes) != Some(directory.ident()?) {
        bail!("{identifier:?} is signed as {:?}", String::from_utf8_lossy(directory.ident()?));
    }
    let entitled = blobs.get(&macho::CSSLOT_ENTITLEMENTS.0).context("the signature has no entitlements")?;
    let entitled = Value::from_reader_xml(entitled.contents())?;
    if entitled != Value::from_file(root().join("packaging/macos/entitlements.plist"))? {
        bail!("the program is entitled to {entitled:?}");
    }
    let pages = directory.header().n_code_slots.get(BigEndian);
    let ad_hoc = if flags.contains(macho::CS_ADHOC) { ", ad hoc" } else { "" };
    let rights: Vec<_> = entitled.as_dictionary().into_iter().flat_map(|rights| rights.keys()).cloned().collect();
    println!("signed: {pages} pages, hardened runtime{ad_hoc}, {}", rights.join(", "));
    Ok(())
}

/// What is in front of the signature, and the signature.
fn split(slice: &[u8]) -> anyhow::Result<(&[u8], CodeSignature<'_>)> {
    let header = MachHeader64::<Endianness>::parse(slice, 0)?;
    let endian = header.endian()?;
    let mut commands = header.load_commands(endian, slice, 0)?;
    while let Some(command) = commands.next()? {
        if let LoadCommandVariant::LinkeditData(data) = command.variant()?
            && command.cmd() == macho::LC_CODE_SIGNATURE
        {
            let code = slice.get(..data.dataoff.get(endian) as usize).context("the signature lies outside")?;
            return Ok((code, data.code_signature(endian, slice)?));
        }
    }
    bail!("a slice has no signature")
}

/// Each page has its hash in the directory, and nothing is left over.
fn covers(directory: &CodeDirectory<'_>, code: &[u8]) -> anyhow::Result<()> {
    let header = directory.header();
    if header.hash_type != macho::CS_HASHTYPE_SHA256 {
        bail!("the hashes are of kind {}", header.hash_type.0);
    }
    let pages = code.chunks(1 << header.page_size);
    if directory.code_limit() != code.len() as u64 || pages.len() != header.n_code_slots.get(BigEndian) as usize {
        bail!("{} of {} bytes are signed", directory.code_limit(), code.len());
    }
    for (index, page) in (0..).zip(pages) {
        if directory.code_hash(index)? != &Sha256::digest(page)[..] {
            bail!("page {index} is not what was signed");
        }
    }
    Ok(())
}

/// Every file of the application is listed with its hash, and every file that is listed is there.
pub(super) fn of_files(contents: &Path) -> anyhow::Result<()> {
    let list = Value::from_reader_xml(File::open(contents.join(RESOURCES))?)?;
    let list = list.as_dictionary().and_then(|list| list.get("files2")?.as_dictionary());
    let list = list.context("the signature lists no files")?;
    let mut files = Vec::new();
    find(contents, "", &mut files)?;
    for file in &files {
        let hash = list.get(file).and_then(|entry| entry.as_dictionary()?.get("hash2")?.as_data());
        if hash != Some(&Sha256::digest(fs::read(contents.join(file))?)[..]) {
            bail!("{file} is not what was signed");
        }
    }
    if files.len() != list.len() {
        bail!("{} files are signed, and {} are there", list.len(), files.len());
    }
    println!("signed: {}", files.join(" "));
    Ok(())
}

/// Adds the paths of the files in a folder, as signatures write them.
fn find(contents: &Path, folder: &str, files: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in fs::read_dir(contents.join(folder))? {
        let entry = entry?;
        let path = format!("{folder}{}", entry.file_name().to_string_lossy());
        if NO_RESOURCES.contains(&path.as_str()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            find(contents, &format!("{path}/"), files)?;
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of hashes for this code, in its oldest form.
    fn directory(code: &[u8]) -> Vec<u8> {
        const HEADER_BYTES: usize = 44;
        let hashes: Vec<u8> = code.chunks(4096).flat_map(Sha256::digest).collect();
        let pages = (hashes.len() / 32) as u32;
        let length = (HEADER_BYTES + hashes.len()) as u32;
        let (flags, name, special, spare) = (0, 0, 0, 0);
        let words = [
            macho::CSMAGIC_CODEDIRECTORY,
            length,
            0x2_0000,
            flags,
            HEADER_BYTES as u32,
            name,
            special,
            pages,
            code.len() as u32,
        ];
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
        bytes.extend([32, macho::CS_HASHTYPE_SHA256.0, 0, 12]);
        bytes.extend(u32::to_be_bytes(spare));
        bytes.extend(hashes);
        bytes
    }

    #[test]
    fn a_signature_covers_every_byte() {
        let mut code: Vec<u8> = (0..10_000_u32).map(|i| i as u8).collect();
        let bytes = directory(&code);
        let directory = CodeDirectory::parse(&bytes).unwrap();
        covers(&directory, &code).unwrap();
        assert!(covers(&directory, &code[..9_999]).is_err());
        code[9_000] ^= 1;
        assert!(covers(&directory, &code).is_err());
    }

    #[test]
    fn an_application_has_its_files_and_no_others() {
        let contents = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let file = contents.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        let mut entry = plist::Dictionary::new();
        entry.insert("hash2".to_owned(), Value::Data(Sha256::digest("text").to_vec()));
        let mut files = plist::Dictionary::new();
        files.insert("Resources/licence".to_owned(), Value::Dictionary(entry));
        let mut list = plist::Dictionary::new();
        list.insert("files2".to_owned(), Value::Dictionary(files));
        write("Info.plist", "");
        write("MacOS/chaarfm-worker", "");
        write(RESOURCES, "");
        Value::Dictionary(list).to_file_xml(contents.path().join(RESOURCES)).unwrap();
        assert!(of_files(contents.path()).is_err());
        write("Resources/licence", "text");
        of_files(contents.path()).unwrap();
        write("Resources/licence", "other");
        assert!(of_files(contents.path()).is_err());
        write("Resources/licence", "text");
        write("Resources/more", "text");
        assert!(of_files(contents.path()).is_err());
    }
}
