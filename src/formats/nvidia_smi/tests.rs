use super::*;

fn read(text: &str) -> Result<Imported, Problems> {
    parse(text, Path::new("g.csv"), &Assumed::default())
}

/// Watts of a device, `None` for a gap.
fn watts(imported: &Imported, index: u32) -> Vec<Option<f64>> {
    let channel = Channel { node: None, scope: Scope::Device, index: Some(index) };
    imported.trace.channels[&channel].iter().map(|reading| reading.power.map(|power| power.0)).collect()
}

#[test]
fn figures_have_units_or_none_or_are_missing() {
    let header = "timestamp, index, power.draw [W], utilization.gpu [%], memory.used [MiB], clocks.current.sm [MHz], temperature.gpu\n";
    let rows = "2024/04/05 06:17:19.000, 0, 58.67 W, 3 %, 1024 MiB, 1410 MHz, 30\n\
                2024/04/05 06:17:19.004, 1, [Not Supported], N/A, [N/A], [Unknown Error], \n\
                2024/04/05 06:17:20.000, 0, 60, 4, 1025, 1411, 31\n\
                2024/04/05 06:17:20.004, 1, 70.5, 5, 1, 2, 3\n";
    let imported = read(&format!("{header}{rows}")).unwrap();
    assert_eq!(watts(&imported, 0), [Some(58.67), Some(60.0)]);
    assert_eq!(watts(&imported, 1), [None, Some(70.5)]);
    let (_, first) = imported.trace.by_time()[0];
    let others = (first.utilization_pct, first.memory_used_mib, first.sm_clock_mhz, first.temperature_c);
    assert_eq!(others, (Some(3.0), Some(1024.0), Some(1410.0), Some(30.0)));
    assert!(imported.notes.is_empty(), "{:?}", imported.notes);
}

#[test]
fn devices_are_told_by_uuid_or_by_order() {
    let by_uuid = "timestamp, uuid, power.draw [W]\n\
                   2024/04/05 06:17:19.000, GPU-b, 1 W\n2024/04/05 06:17:19.000, GPU-a, 2 W\n2024/04/05 06:17:20.000, GPU-b, 3 W\n";
    let imported = read(by_uuid).unwrap();
    assert_eq!((watts(&imported, 0), watts(&imported, 1)), (vec![Some(1.0), Some(3.0)], vec![Some(2.0)]));
    let by_order = "timestamp, power.draw [W]\n\
                    2024/04/05 06:17:19.000, 1 W\n2024/04/05 06:17:19.004, 2 W\n\
                    2024/04/05 06:17:20.000, 3 W\n2024/04/05 06:17:20.007, 4 W\n2024/04/05 06:17:21.001, 5 W\n2024/04/05 06:17";
    let imported = read(by_order).unwrap();
    assert_eq!(watts(&imported, 0), [Some(1.0), Some(3.0), Some(5.0)]);
    assert_eq!(watts(&imported, 1), [Some(2.0), Some(4.0)]);
    assert!(
        imported.notes[0].contains("line 7: cut off") && imported.notes[1].contains("2 devices"),
        "{:?}",
        imported.notes
    );
}

#[test]
fn a_cut_last_line_is_left_out_wherever_it_is_cut() {
    let whole = "timestamp, power.draw [W], utilization.gpu [%]\n2024/04/05 06:17:19.000, 100.25 W, 90 %\n";
    let last = "2024/04/05 06:17:20.000, 200.50 W, 100 %";
    for end in 0..last.len() {
        let imported = read(&format!("{whole}{}", &last[..end])).unwrap();
        assert_eq!(watts(&imported, 0), [Some(100.25)], "{end}");
        assert_eq!(imported.notes.len(), usize::from(end > 0), "{end}");
    }
    assert_eq!(watts(&read(&format!("{whole}{last}")).unwrap(), 0), [Some(100.25), Some(200.5)]);
    let without_units = "timestamp, power.draw [W]\n2024/04/05 06:17:19.000, 100\n2024/04/05 06:17:20.000, 10";
    assert_eq!(watts(&read(without_units).unwrap(), 0), [Some(100.0)], "10 may be the start of 100");
}

#[test]
fn a_log_that_was_appended_to_is_one_log() {
    let part = |second: u32| {
        format!(
            "timestamp, power.draw [W]\n2024/04/05 06:17:{second}.000, 5 W\n2024/04/05 06:17:{}.000, 6 W\n",
            second + 1
        )
    };
    let imported = read(&format!("{}2024/04/05 06:1{}", part(10), part(20))).unwrap();
    assert_eq!(watts(&imported, 0), [Some(5.0), Some(6.0), Some(5.0), Some(6.0)]);
    assert!(imported.notes[0].contains("line 4: cut off"), "{:?}", imported.notes);
}

#[test]
fn every_defect_has_its_place() {
    let text = "timestamp, power.draw [W], utilization.gpu [%]\n\
                yesterday, 5 W, 1 %\n2024/04/05 06:17:19.000, 5 kW, 1 %\n2024/04/05 06:17:20.000, 5 W\n\
                2024/04/05 06:17:21.000, -5 W, 101 %\n2024/04/05 06:17:22.000, 5 W, 1 %\n";
    let message = read(text).unwrap_err().to_string();
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines.len(), 5, "{message}");
    assert!(lines[0].starts_with("g.csv: line 2, column 1 (timestamp): `yesterday`: no date and time; expected"));
    assert!(lines[1].starts_with("g.csv: line 3, column 2 (power.draw): `5 kW`"));
    assert!(lines[2].starts_with("g.csv: line 4: 2 cells where the header has 3"));
    assert!(lines[3].contains("line 5, column 2") && lines[4].contains("line 5, column 3"));
    let message = |text: &str| read(text).unwrap_err().to_string();
    assert!(message("").contains("the file is empty"));
    assert!(message("2024/04/05 06:17:19.000, 5 W\n").contains("the header has no `timestamp`"));
    assert!(message("timestamp, power.draw [W]\n").contains("no readings"));
}
