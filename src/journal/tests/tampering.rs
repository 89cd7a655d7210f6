//! Whatever is done to the files, it is found.

use proptest::prelude::*;

use super::*;

/// The names and lines of a journal's files.
type Files = Vec<(String, Vec<Vec<u8>>)>;

fn sample() -> (Files, Anchor) {
    let scratch = scratch();
    let head = fill(scratch.path(), limits(900, 64), 12);
    let files = paths(scratch.path()).into_iter().map(|path| {
        let lines = fs::read(&path).unwrap().split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), lines)
    });
    (files.collect(), head)
}

fn verify_all(files: &Files, anchor: Option<&Anchor>) -> Result<Verified, Broken> {
    let scratch = scratch();
    for (name, lines) in files {
        fs::write(scratch.path().join(name), lines.concat()).unwrap();
    }
    // To open a journal that is damaged is an error at most.
    let verified = verify(scratch.path(), anchor);
    let _ = Journal::open(scratch.path(), wide());
    verified
}

#[derive(Clone, Debug)]
enum Tampering {
    Change { byte: prop::sample::Index, with: u8 },
    Remove(prop::sample::Index),
    Duplicate(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    SwapFiles(prop::sample::Index, prop::sample::Index),
}

fn tampering() -> impl Strategy<Value = Tampering> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (index(), 1_u8..).prop_map(|(byte, with)| Tampering::Change { byte, with }),
        1 => index().prop_map(Tampering::Remove),
        1 => index().prop_map(Tampering::Duplicate),
        1 => (index(), index()).prop_map(|(a, b)| Tampering::Swap(a, b)),
        1 => (index(), index()).prop_map(|(a, b)| Tampering::SwapFiles(a, b)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tampering_is_found(tampering in tampering()) {
        let (origin, head) = sample();
        let mut files = origin.clone();
        let places: Vec<(usize, usize)> =
            files.iter().enumerate().flat_map(|(file, (_, lines))| (0..lines.len()).map(move |line| (file, line))).collect();
        let at = |index: &prop::sample::Index| places[index.index(places.len())];
        match &tampering {
            Tampering::Change { byte, with } => {
                let mut at = byte.index(files.iter().flat_map(|(_, lines)| lines).map(Vec::len).sum());
                for line in files.iter_mut().flat_map(|(_, lines)| lines) {
                    if at < line.len() {
                        line[at] ^= with;
                        break;
                    }
                    at -= line.len();
                }
            }
            Tampering::Remove(index) => {
                let (file, line) = at(index);
                files[file].1.remove(line);
            }
            Tampering::Duplicate(index) => {
                let (file, line) = at(index);
                let copy = files[file].1[line].clone();
                files[file].1.insert(line, copy);
            }
            Tampering::Swap(a, b) => {
                let ((a, i), (b, j)) = (at(a), at(b));
                let (first, second) = (files[a].1[i].clone(), files[b].1[j].clone());
                (files[a].1[i], files[b].1[j]) = (second, first);
            }
            Tampering::SwapFiles(a, b) => {
                let (a, b) = (a.index(files.len()), b.index(files.len()));
                let (first, second) = (files[a].1.clone(), files[b].1.clone());
                (files[a].1, files[b].1) = (second, first);
            }
        }
        prop_assume!(files != origin);
        let found = verify_all(&files, Some(&head));
        prop_assert!(found.is_err(), "{tampering:?}: {found:?}");
        // Without an anchor only the last record can go, and half of it shows.
        if let Ok(verified) = verify_all(&files, None) {
            prop_assert!(verified.head.seq + 1 == head.seq, "{tampering:?}: {verified:?}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>()) {
        let (mut files, head) = sample();
        let file = at.index(files.len());
        files[file].1.push(bytes);
        let _ = verify_all(&files, Some(&head));
    }
}
