//! Files as UTF-8 text, gzip and Zstandard unpacked on the way whatever the file is called. UTF-16, which spreadsheets
//! like to write, is named and refused rather than read as nonsense.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::problems::{Collector, Problems};

/// Text being read, wherever it comes from.
pub type Source = Box<dyn BufRead + Send>;

const BUFFER: usize = 1 << 17;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTANDARD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Opens a file for reading as UTF-8 text; refuses UTF-16 by name.
pub fn open_text(path: &Path) -> Result<Source, Problems> {
    let unreadable = |source| Problems::Unreadable { file: path.to_owned(), source };
    let mut file = BufReader::with_capacity(BUFFER, File::open(path).map_err(unreadable)?);
    let start = file.fill_buf().map_err(unreadable)?;
    if start.starts_with(GZIP) {
        checked_text(path, MultiGzDecoder::new(file))
    } else if start.starts_with(ZSTANDARD) {
        checked_text(path, zstd::Decoder::with_buffer(file).map_err(|error| reading_failed(path, error))?)
    } else {
        check_start(path, file)
    }
}

/// The bytes of a file if they are its text: of a packed file, and of what is no file, `None`. Only such a file can be
/// read again from a place within.
pub fn plain_bytes(path: &Path) -> Option<u64> {
    let file = File::open(path).ok()?;
    let metadata = file.metadata().ok().filter(Metadata::is_file)?;
    let mut start = Vec::with_capacity(ZSTANDARD.len());
    file.take(ZSTANDARD.len() as u64).read_to_end(&mut start).ok()?;
    (!start.starts_with(GZIP) && !start.starts_with(ZSTANDARD)).then_some(metadata.len())
}

/// What an error amid reading means: a damaged archive is bad data, all else a file that cannot be read.
pub fn reading_failed(path: &Path, error: io::Error) -> Problems {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    if !matches!(error.kind(), InvalidData | InvalidInput | Other | UnexpectedEof) {
        return Problems::Unreadable { file: path.to_owned(), source: error };
    }
    let mut problems = Collector::new(path);
    problems.add("", format!("reading failed: {error}"), "the file is damaged or cut off: make it again");
    problems.into_error()
}

/// As `open_text`, from a reader of unpacked text; `path` only names it.
pub fn checked_text(path: &Path, source: impl Read + Send + 'static) -> Result<Source, Problems> {
    check_start(path, BufReader::with_capacity(BUFFER, source))
}

fn check_start(path: &Path, mut file: impl BufRead + Send + 'static) -> Result<Source, Problems> {
    let start = file.fill_buf().map_err(|error| reading_failed(path, error))?;
    let start = &start[..start.len().min(64)];
    if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) || start.contains(&0) {
        let mut problems = Collector::new(path);
        let remedy = "convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW";
        problems.add("line 1", "not UTF-8 text (it looks like UTF-16 or binary)", remedy);
        return problems.fail();
    }
    Ok(Box::new(file))
}

/// A whole UTF-8 text file, without a byte order mark.
pub fn read_text(path: &Path) -> Result<String, Problems> {
    whole_text(path, open_text(path)?)
}

/// As `read_text`, from a reader; `path` only names it.
pub fn whole_text(path: &Path, mut source: impl Read) -> Result<String, Problems> {
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes).map_err(|error| reading_failed(path, error))?;
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        let mut problems = Collector::new(path);
        problems.add(format!("line {line}"), "not UTF-8 text", "save the file as UTF-8");
        problems.into_error()
    })?;
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn packed_files_read_as_their_text_and_damaged_ones_are_bad_data() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let text = "a,b\n1,2\n".repeat(1000);
        let gzip = |text: &str| {
            let mut packer = GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packer.write_all(text.as_bytes()).unwrap();
            packer.finish().unwrap()
        };
        let members = [gzip(&text[..800]), gzip(&text[800..])].concat(); // as `cat a.gz b.gz` makes them
        let zstandard = zstd::encode_all(text.as_bytes(), 1).unwrap();
        for packed in [members, zstandard] {
            std::fs::write(&path, &packed).unwrap();
            assert_eq!(read_text(&path).unwrap(), text);
            assert_eq!(plain_bytes(&path), None);
            std::fs::write(&path, &packed[..packed.len() - 5]).unwrap();
            assert!(matches!(read_text(&path), Err(Problems::BadData(_))));
        }
        std::fs::write(&path, "x").unwrap();
        assert_eq!((read_text(&path).unwrap().as_str(), plain_bytes(&path)), ("x", Some(1)));
        assert!(matches!(open_text(Path::new("/nowhere")), Err(Problems::Unreadable { .. })));
    }
}
