use super::*;

fn source(bytes: Vec<u8>) -> ReadAt {
    ReadAt::Static { bytes: bytes.leak(), name: "t.npy" }
}

fn dict(descr: &str, fortran: bool, shape: &str) -> String {
    let order = if fortran { "True" } else { "False" };
    format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n")
}

fn file(descr: &str, fortran: bool, shape: &str, body: &[u8]) -> Vec<u8> {
    version(1, &dict(descr, fortran, shape), body)
}

/// Version 1 has two bytes for the header's length, 2 and 3 have four.
fn version(major: u8, dict: &str, body: &[u8]) -> Vec<u8> {
    let len = (dict.len() as u32).to_le_bytes();
    let len = if major == 1 { &len[..2] } else { &len[..] };
    [b"\x93NUMPY", &[major, 0][..], len, dict.as_bytes(), body].concat()
}

fn read_all(bytes: Vec<u8>, size: usize) -> Result<Vec<f64>> {
    let source = source(bytes);
    let header = header(&source)?;
    let parts = (0..size).map(|rank| read::<f64>(&source, &header, rank, size, &|_, _| ()));
    Ok(parts.collect::<Result<Vec<_>>>()?.iter().flat_map(|m| m.as_slice().to_vec()).collect())
}

#[test]
fn types_orders_and_shapes() {
    let want = [1.0f64, 2.0, 3.0, 4.0, 5.0, 6.0];
    let f8: Vec<u8> = want.iter().flat_map(|x| x.to_le_bytes()).collect();
    let f4big: Vec<u8> = want.iter().flat_map(|&x| (x as f32).to_be_bytes()).collect();
    let i2: Vec<u8> = want.iter().flat_map(|&x| (x as i16).to_le_bytes()).collect();
    let columns: Vec<u8> = [1.0f64, 3.0, 5.0, 2.0, 4.0, 6.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    for size in 1..=5 {
        for bytes in [
            file("'<f8'", false, "(3, 2)", &f8),
            file("\"<f8\"", false, "(3L, 2L,)", &f8),
            file("'<f8'", true, "(3, 2)", &columns),
            file("'<f8'", false, "(6,)", &f8),
            file("'>f4'", false, "(3, 2)", &f4big),
            file("'<i2'", false, "(2, 3)", &i2),
            file("'|u1'", false, "(2, 3)", &[1, 2, 3, 4, 5, 6]),
        ] {
            assert_eq!(read_all(bytes, size).unwrap(), want, "{size} ranks");
        }
    }
}

#[test]
fn versions_2_and_3() {
    let want = [1.0f64, 2.0, 3.0, 4.0, 5.0, 6.0];
    let f8: Vec<u8> = want.iter().flat_map(|x| x.to_le_bytes()).collect();
    let plain = dict("'<f8'", false, "(3, 2)");
    // Why there is version 2: a header of more than 65535 bytes would not be read, one of nearly as many is.
    let long = format!("{}{}\n", plain.trim_end(), " ".repeat(65_000));
    for major in [2, 3] {
        for dict in [&plain, &long] {
            let bytes = version(major, dict, &f8);
            let found = header(&source(bytes.clone())).unwrap();
            assert_eq!((found.shape, found.offset), (vec![3, 2], 12 + dict.len() as u64), "version {major}");
            for size in 1..=4 {
                assert_eq!(read_all(bytes.clone(), size).unwrap(), want, "version {major}, {size} ranks");
            }
        }
    }
    // Version 3 is UTF-8: names of fields may be any letters.
    let records = version(3, &dict("[('Länge', '<f8'), ('高さ', '<f8')]", false, "(3,)"), &f8);
    let text = read_all(records, 1).unwrap_err().to_string();
    assert!(text.contains("the array holds records [('Länge', '<f8'), ('高さ', '<f8')]"), "{text}");
    let text = read_all(version(2, &plain, &f8[..40]), 2).unwrap_err().to_string();
    assert!(text.contains("promises 3 x 2 elements of <f8: it is cut off"), "{text}");
}

#[test]
fn a_file_of_the_right_type_is_mapped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let mut bytes = header_bytes("<f4", &[5, 3]);
    bytes.extend((0..15).flat_map(|i| (i as f32).to_le_bytes()));
    std::fs::write(&path, bytes).unwrap();
    let source = ReadAt::open(&path).unwrap();
    let header = header(&source).unwrap();
    assert_eq!((header.shape.as_slice(), header.offset), (&[5, 3][..], 128));
    for (rank, first) in [(0, 0.0f32), (1, 6.0)] {
        let m = read::<f32>(&source, &header, rank, 2, &|_, _| ()).unwrap();
        assert!(m.is_mapped());
        assert_eq!((m.as_slice()[0], m.n_total, m.first_row), (first, 5, first as u64 / 3));
        let m = read::<f64>(&source, &header, rank, 2, &|_, _| ()).unwrap();
        assert!(!m.is_mapped());
        assert_eq!(m.as_slice()[0], f64::from(first));
    }
}

#[test]
fn errors_say_what_the_file_is() {
    let body = [0u8; 64];
    for (bytes, want) in [
        (vec![], "t.npy: the file is empty"),
        (b"1,2,3\n4,5,6\n".to_vec(), "t.npy: this is not a .npy file"),
        (b"\x93NUMPY\x09\x00aaaaaa".to_vec(), "t.npy: its format version 9.0 is not known"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "t.npy: its header would have 4294967295 bytes"),
        (
            file("'<f8'", false, "(3, 4)", &body),
            "t.npy: the file has 134 bytes, but its header promises 3 x 4 elements",
        ),
        (file("'<f8'", false, "(4294967296, 4294967296)", &body), "t.npy: the file has"),
        (file("'|O'", false, "(3, 4)", &body), "t.npy: the array holds Python objects"),
        (file("'<c16'", false, "(1, 4)", &body), "t.npy: the array holds complex numbers"),
        (file("'<U8'", false, "(2,)", &body), "t.npy: the array holds text"),
        (file("[('a', '<f8'), ('b', '<f8')]", false, "(2,)", &body), "t.npy: the array holds records [('a'"),
        (
            file("'<f8'", false, "(2, 2, 2)", &body),
            "t.npy: the array has 3 dimensions (shape [2, 2, 2]), not 2",
        ),
        (file("'<f8'", false, "()", &body), "t.npy: the array has 0 dimensions"),
        (file("'<f8'", false, "(2, -2)", &body), "t.npy: its header is not understood"),
        (file("__import__('os')", false, "(2, 2)", &body), "t.npy: its header is not understood"),
    ] {
        let text = read_all(bytes, 2).unwrap_err().to_string();
        assert!(text.starts_with(want), "{text}\nwant {want}");
    }
}

proptest::proptest! {
    #[test]
    fn damaged_files_never_panic(at in 0usize..80, byte in proptest::num::u8::ANY, cut in 0usize..140) {
        let mut bytes = file("'<f8'", false, "(3, 2)", &[0; 48]);
        let at = at.min(bytes.len() - 1);
        bytes[at] = byte;
        bytes.truncate(cut);
        let _ = read_all(bytes, 2);
    }
}
