use super::*;

fn source(text: &str) -> ReadAt {
    ReadAt::Static { bytes: text.to_owned().leak().as_bytes(), name: "t.csv" }
}

/// All ranks' rows, one after the other.
fn read_all(text: &str, size: usize) -> Result<Vec<f64>> {
    let (source, workers) = (source(text), Workers::new(2)?);
    let layout = layout(&source)?;
    let mut all = Vec::new();
    for rank in 0..size {
        all.extend_from_slice(read::<f64>(&source, &layout, rank, size, &workers, &|_, _| ())?.as_slice());
    }
    Ok(all)
}

#[test]
fn dialects_give_the_same_rows_on_any_rank_count() {
    let want = [1.0, -2.5, 3e2, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
    for text in [
        "1,-2.5,3e2\n4,5,6\n7,8,9\n",
        "1,-2.5,3e2\n4,5,6\n7,8,9",
        "\u{feff}a,b,c\r\n1,-2.5,3e2\r\n4,5,6\r\n7,8,9\r\n",
        "# made by hand\n\nx;y;z\n1;-2.5;3e2\n\n4; 5;6\n  \n7;8;9\n\n",
        "1\t-2.5\t3e2\n4\t5\t6\n7\t8\t9\n",
        "  1  -2.5 300\n4 5 6\n# note\n7 8 9\n",
        "\"a\",\"b, c\",d\n\"1\",\"-2.5\",3e2\n4,\" 5\",+6\n7.,8,9\n",
    ] {
        for size in 1..=12 {
            assert_eq!(read_all(text, size).unwrap(), want, "{text:?} at {size} ranks");
        }
    }
}

#[test]
fn lines_longer_and_shorter_than_a_piece() {
    let mut text = String::new();
    let mut want = Vec::new();
    for i in 0..60_000 {
        let row = [f64::from(i), f64::from(i) / 7.0, -f64::from(i % 1013 * 7)];
        text += &format!("{},{},{}\n", row[0], row[1], row[2]);
        want.extend(row);
    }
    assert!(text.len() as u64 > PIECE, "several pieces");
    for size in [1, 2, 5] {
        assert_eq!(read_all(&text, size).unwrap(), want);
    }
    let wide: Vec<String> = (0..400_000).map(|i| i.to_string()).collect();
    let wide = wide.join(",");
    assert!(wide.len() as u64 > PIECE);
    let rows = read_all(&format!("{wide}\n{wide}\n"), 3).unwrap();
    assert_eq!((rows.len(), rows[400_001]), (800_000, 1.0));
}

#[test]
fn errors_name_line_and_column() {
    for (text, want) in [
        ("1,2\n3\n", "t.csv:2: the row has 1 field, but the first row of the file has 2"),
        ("1,2\n3,4,5\n", "t.csv:2: the row has 3 fields"),
        ("1,2\n\n#\n3,x\n", "t.csv:4: column 2: \"x\" is not a number"),
        ("a,b\n1,2\n3,4z\n", "t.csv:3: column 2 (b): \"4z\" is not a number"),
        ("1,2\n3,nan\n", "t.csv:2: column 2: \"nan\" is not a finite number"),
        ("1,2\n-inf,1\n", "t.csv:2: column 1: \"-inf\" is not a finite number"),
        ("1,2\n1e999,1\n", "t.csv:2: column 1: \"1e999\" is not a finite number"),
        ("1,2\n3,\n", "t.csv:2: column 2: the field is empty"),
        ("1,x\n3,4\n", "t.csv:1: column 2: \"x\" is not a number, but other fields"),
        ("", "t.csv: the file is empty"),
        ("\n \n#\n", "t.csv: the file has no line with numbers"),
        ("1,2\0\n", "t.csv:1: there are zero bytes in it"),
        ("1,2\n3,\"4\n5\",6\n", "t.csv:2: column 2: \"\\\"4\" is not a number"),
    ] {
        for size in [1, 2, 5] {
            let text = read_all(text, size).unwrap_err().to_string();
            assert!(text.starts_with(want), "{text}\nwant {want}");
        }
    }
}

#[test]
fn header_only_has_no_rows() {
    assert_eq!(read_all("a,b\n", 2).unwrap(), Vec::<f64>::new());
    assert_eq!(layout(&source("a,b")).unwrap().names, Some(vec!["a".into(), "b".into()]));
}

#[test]
fn f32_overflow_is_found() {
    let source = source("1,1e39\n");
    let layout = layout(&source).unwrap();
    let workers = Workers::new(1).unwrap();
    let e = read::<f32>(&source, &layout, 0, 1, &workers, &|_, _| ()).err().unwrap();
    assert!(e.to_string().contains("needs --dtype f64"), "{e}");
}

#[test]
fn a_file_that_is_shortened_while_it_is_read_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.csv");
    let workers = Workers::new(1).unwrap();
    let text = "1.5,2.5\n".repeat(3 * PIECE as usize / 8);
    let shorten = |to: u64| std::fs::File::options().write(true).open(&path).unwrap().set_len(to).unwrap();
    let said = |e: Error, end: u64| {
        let want = format!("{}: the file ended at byte {end}, earlier than its size", path.display());
        assert!(e.to_string().starts_with(&want) && e.exit_code() == 74, "{e}\nwant {want}");
    };
    // Between the look at its size and the first byte read.
    std::fs::write(&path, &text).unwrap();
    let source = ReadAt::open(&path).unwrap();
    shorten(5);
    said(layout(&source).unwrap_err(), 5);
    // After the layout: the rank whose share has lost bytes says so, the other has all of its rows.
    for (size, end) in [(1, 2 * PIECE + 100), (2, 2 * PIECE), (1, 0)] {
        std::fs::write(&path, &text).unwrap();
        let source = ReadAt::open(&path).unwrap();
        let layout = layout(&source).unwrap();
        shorten(end);
        let last = read::<f64>(&source, &layout, size - 1, size, &workers, &|_, _| ());
        said(last.err().unwrap(), end);
        if size == 2 {
            let first = read::<f64>(&source, &layout, 0, size, &workers, &|_, _| ()).unwrap();
            assert_eq!(first.rows() as u64, 3 * PIECE / 8 / 2);
        }
    }
    // In the middle: one piece has been read when the next ones go.
    std::fs::write(&path, &text).unwrap();
    let source = ReadAt::open(&path).unwrap();
    let layout = layout(&source).unwrap();
    let all = read::<f64>(&source, &layout, 0, 1, &workers, &|_, _| shorten(PIECE + 10));
    said(all.err().unwrap(), PIECE + 10);
}

proptest::proptest! {
    #[test]
    fn any_bytes_give_rows_or_an_error(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), size in 1usize..5) {
        let _ = read_all(&String::from_utf8_lossy(&bytes), size);
    }

    #[test]
    fn written_numbers_come_back(rows in proptest::collection::vec((-1e300..1e300f64, -1e-300..1e300f64), 1..50), size in 1usize..9) {
        let text: String = rows.iter().map(|(a, b)| format!("{a:e},{b}\n")).collect();
        let want: Vec<f64> = rows.iter().flat_map(|&(a, b)| [a, b]).collect();
        proptest::prop_assert_eq!(read_all(&text, size).unwrap(), want);
    }
}
