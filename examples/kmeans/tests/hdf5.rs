//! HDF5 input as a user meets it. A test program of its own: libhdf5's files are inherited, with their locks, by whatever
//! another thread starts while one is open.
#![cfg(feature = "hdf5")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use program::kmeans;

mod program;

#[test]
fn parts_and_errors() {
    let dir = tempfile::tempdir().unwrap();
    let file = hdf5_metno::File::create(dir.path().join("x.h5")).unwrap();
    let points: Vec<f32> = (0..40).map(|i| (i % 4) as f32 * 10.0 + (i / 4) as f32).collect();
    file.new_dataset_builder().with_data(&points).create("line").unwrap();
    file.new_dataset::<f64>().shape((2, 2, 2)).create("cube").unwrap();
    file.new_dataset::<bool>().shape((4, 2)).create("flags").unwrap();
    let run = |input: &str, k: &str| {
        let args = ["--input", input, "--k", k, "--quiet", "--output", "c.csv"];
        let (code, _, text) = kmeans(dir.path(), &args);
        (code, text)
    };
    let (code, text) = run("x.h5:/line", "4");
    assert!(code == 65 && text.contains("HDF5_USE_FILE_LOCKING"), "open for writing: {code} {text}");
    drop(file);
    std::fs::write(dir.path().join("fake.h5"), b"not hdf5").unwrap();
    for (input, code, want) in [
        ("x.h5:/nothing", 66, "there is no dataset /nothing"),
        ("x.h5", 66, "the datasets in this file are: /cube, /flags, /line"),
        ("x.h5:/cube", 65, "the dataset has 3 dimensions (shape [2, 2, 2])"),
        ("x.h5:/flags", 65, "not real numbers"),
        ("fake.h5:/x", 65, "HDF5 cannot open the file"),
        ("none.h5:/x", 66, "none.h5: cannot be read: no such file"),
    ] {
        let (got, text) = run(input, "2");
        assert!(got == code && text.contains(want), "{input}: {got} {text}");
    }
    let (code, text) = run("x.h5:/line", "4");
    assert_eq!(code, 0, "{text}");
}
