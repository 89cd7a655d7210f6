//! What an image says of itself while it is not mounted: the superblock of ext4.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

/// Where it lies in the image, and how much of it is read, in bytes.
const OFFSET: u64 = 1024;
const LENGTH: usize = 0x160;

/// `s_magic`, and the bit of `s_state` that says that errors were found.
const MAGIC: u16 = 0xef53;
const ERRORS: u16 = 0x0002;

/// What is wrong with an image's file system, as far as its superblock shows; `None` for nothing.
///
/// # Errors
/// The file cannot be read.
pub(super) fn damage(image: &Path) -> io::Result<Option<String>> {
    let file = File::open(image)?;
    let mut block = [0; LENGTH];
    match file.read_exact_at(&mut block, OFFSET) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(Some("the image is too short".to_owned())),
        other => other?,
    }
    let short = |at: usize| block.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes);
    let long = |at: usize| block.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
    if short(0x38) != MAGIC {
        return Ok(Some("the image holds no ext4 file system".to_owned()));
    }
    let blocks = u64::from(long(0x4)) | u64::from(long(0x150)) << 32;
    let size = 1024_u64.checked_shl(long(0x18)).unwrap_or(u64::MAX);
    if blocks.saturating_mul(size) > file.metadata()?.len() {
        return Ok(Some("the image is shorter than its file system".to_owned()));
    }
    Ok((short(0x3a) & ERRORS != 0).then(|| "the kernel found errors in it".to_owned()))
}
