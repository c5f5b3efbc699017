use super::*;
use crate::progress::Mode;
use aeolian::World;
use proptest::prelude::*;

/// The texts of the fields of all rows, read in so many ranges, one after another.
fn in_ranges(bytes: &[u8], ranges: usize) -> Vec<Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.csv");
    std::fs::write(&path, bytes).unwrap();
    let mut table = Table::header(ReadAt::open(&path).unwrap(), &Dialect::default()).unwrap();
    let mut rows = Vec::new();
    let mut before = 0;
    for rank in 0..ranges {
        let share = block(table.source.len() - table.start, rank, ranges);
        table.range = (table.start + share.start, table.start + share.end);
        table.inside = before % 2 == 1;
        before += quotes(&table.source, table.range.0, table.range.1, &|_| Ok(())).unwrap();
        let take = |_, fields: &Fields| {
            let text = |i| String::from_utf8(fields.get(i).0.to_vec()).unwrap();
            rows.push((0..fields.len()).map(text).collect());
            Ok(())
        };
        table.each(&|_| Ok(()), take).unwrap();
    }
    rows
}

fn by_csv(bytes: &[u8]) -> Vec<Vec<String>> {
    let reader = csv::Reader::from_reader(bytes);
    reader.into_records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
}

/// A field as it stands in a file.
fn field() -> impl Strategy<Value = String> {
    let quoted = "[a\",\r\n]{0,8}".prop_map(|text| format!("\"{}\"", text.replace('"', "\"\"")));
    prop_oneof!["[a-c é]{0,4}", Just("\"\"".to_owned()), Just("\"\n\"".to_owned()), quoted]
}

proptest! {
    #[test]
    fn any_ranges_give_the_rows_of_the_csv_crate(
        rows in proptest::collection::vec((field(), field(), field()), 0..20),
        crlf in any::<bool>(),
        mark in any::<bool>(),
        is_ended in any::<bool>(),
        is_apart in any::<bool>(),
        ranges in 1usize..10,
    ) {
        let end = match (crlf, is_apart) {
            (false, false) => "\n",
            (true, false) => "\r\n",
            (false, true) => "\n\n",
            (true, true) => "\r\n\r\n",
        };
        let rows: Vec<String> = rows.into_iter().map(|(a, b, c)| format!("{a},{b},{c}")).collect();
        let mut text = if mark { "\u{feff}".to_owned() } else { String::new() };
        text += &[vec!["x,\"y\n\",z".to_owned()], rows].concat().join(end);
        if is_ended {
            text += end;
        }
        prop_assert_eq!(in_ranges(text.as_bytes(), ranges), by_csv(text.as_bytes()));
    }

    #[test]
    fn what_is_written_is_read_back(
        rows in proptest::collection::vec((any::<Option<i64>>(), proptest::option::of("[ab\",\n\r;NA]{0,4}")), 1..20),
        null in prop_oneof![Just(""), Just("NA")],
        delimiter in prop_oneof![Just(b','), Just(b';'), Just(b'a')],
        columns in 1usize..3,
    ) {
        prop_assume!(!null.as_bytes().contains(&delimiter));
        let dialect = Dialect { delimiter, null: null.into() };
        let row = |(n, text): (Option<i64>, Option<String>)| {
            let n = n.map_or(Value::Null, Value::Int);
            [text.map_or(Value::Null, Value::Text), n][..columns].to_vec()
        };
        let rows: Vec<Vec<Value>> = rows.into_iter().map(row).collect();
        let mut text = dialect.header(&["t".into(), "n".into()][..columns]);
        rows.iter().for_each(|row| dialect.put(row, &mut text));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        std::fs::write(&path, text).unwrap();
        let mut table = Table::header(ReadAt::open(&path).unwrap(), &dialect).unwrap();
        table.kinds = [Kind::Text, Kind::Int][..columns].to_vec();
        table.range = (table.start, table.source.len());
        let mut back = Vec::new();
        let progress = Progress::new("", Mode::Silent);
        let all: Vec<usize> = (0..columns).collect();
        table.read(&World::alone(), &all, &progress, |row| { back.push(row); Ok(()) }).unwrap();
        prop_assert_eq!(back, rows);
    }
}

fn scanned(world: &mut World, path: &Path) -> Result<Table> {
    let mut table = Table::open(world, ReadAt::open(path), &Dialect::default())?;
    table.scan(world, &Progress::new("", Mode::Silent))?;
    Ok(table)
}

#[test]
fn types_are_those_of_the_whole_file_on_all_ranks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.csv");
    std::fs::write(&path, "i,f,t,n,z\n1,1,1,,007\n,2.5,,,1\n-3,,\"x\ny\",,2\n4,4,4,,3\n").unwrap();
    for ranks in [1, 2, 3, 7] {
        let found = aeolian::World::local(ranks, |mut world| {
            let table = scanned(&mut world, &path).unwrap();
            world.finish()?;
            Ok((table.kinds, table.rows))
        });
        let kinds = vec![Kind::Int, Kind::Float, Kind::Text, Kind::Null, Kind::Text];
        assert!(found.unwrap().iter().all(|one| *one == (kinds.clone(), 4)), "{ranks} ranks");
    }
}

#[test]
fn a_mistake_is_told_with_its_line_by_all_ranks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.csv");
    for (text, want) in [
        ("a,b\n1,\"x\ny\"\n3\n5,6\n7,8\n", "t.csv:4: the row has 1 field, but the header 2"),
        (
            "a,b\n1,2\n3,4\"\n5,6\n7,\"8\n\"\n",
            "t.csv:3: column 2: there is a quote inside of an unquoted field",
        ),
        ("a,b\n1,2\n3,\"4\n5,6\n7,8\n9,10\n", "t.csv:3: column 2: the quote that opens it is not closed"),
    ] {
        std::fs::write(&path, text).unwrap();
        for ranks in [1, 2, 3, 5] {
            let texts = aeolian::World::local(ranks, |mut world| {
                let e = scanned(&mut world, &path).unwrap_err();
                world.finish()?;
                Ok(e.to_string())
            });
            for text in texts.unwrap() {
                assert!(text.contains(want), "{ranks} ranks: {text}, not {want}");
            }
        }
    }
}

#[test]
fn the_first_text_of_a_column_is_told_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.csv");
    std::fs::write(&path, "a,b,c\n1,\"x\ny\",1\n2,,abc\n3,z,007\n4,z,9223372036854775808\n").unwrap();
    for ranks in [1, 2, 3, 7] {
        let texts = aeolian::World::local(ranks, |mut world| {
            let table = scanned(&mut world, &path).unwrap();
            let told = (0..3).map(|i| agree(&mut world, table.numbers(i)).map_err(|e| e.to_string()));
            let told = told.collect::<Vec<_>>();
            world.finish()?;
            Ok(told)
        });
        for told in texts.unwrap() {
            assert_eq!(told[0], Ok(()), "{ranks} ranks");
            for (told, want) in [
                (&told[1], "t.csv:2: column 2 (b): \"x\\ny\" is not a number"),
                (&told[2], "t.csv:4: column 3 (c): \"abc\" is"),
            ] {
                assert!(told.as_ref().unwrap_err().contains(want), "{ranks} ranks: {told:?}");
            }
        }
    }
}
