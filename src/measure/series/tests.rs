//! Counters that step, wrap and reset; powers with holes.

use super::*;

const NONE: Seconds = Seconds(0.0);

fn counter(wraps_at: Option<f64>) -> Series {
    Series::new(Method::Counter { wraps_at: wraps_at.map(Joules), max_power: Watts(5_000.0) }, Seconds(0.1))
}

fn power(averaged_over: Seconds) -> Series {
    Series::new(Method::Integrated { averaged_over }, Seconds(0.1))
}

fn joules(series: &Series, from: f64, to: f64) -> f64 {
    series.energy(Seconds(from), Seconds(to)).unwrap().joules.0
}

fn refusal(series: &Series, from: f64, to: f64) -> RefusalKind {
    series.energy(Seconds(from), Seconds(to)).unwrap_err().kind
}

/// 100 W for `seconds`, read every 10 ms, shown in steps of 50 ms, with an offset and a range.
fn stepped(series: &mut Series, seconds: u32, offset: f64, range: f64) {
    for tick in 0..100 * seconds {
        let shown = f64::from(tick / 5) * 0.05;
        series.add(Seconds(f64::from(tick) * 0.01), Reading::Counter(Joules((offset + 100.0 * shown) % range)));
    }
}

#[test]
fn a_counter_is_interpolated_between_its_steps() {
    let mut series = counter(None);
    stepped(&mut series, 4, 1e6, 1e12);
    series.pin(Seconds(2.0));
    // The same lateness of 5 ms at both ends.
    assert!((joules(&series, 0.52, 3.49) - 297.0).abs() < 1e-6);
    assert!((series.update_interval().unwrap().0 - 0.05).abs() < 1e-9);
    let uncertainty = series.energy(Seconds(1.0), Seconds(3.0)).unwrap().uncertainty.0;
    assert!((uncertainty - 5.0).abs() < 1e-6, "{uncertainty}");
    assert_eq!(refusal(&series, 1.0, 1.07), RefusalKind::TooShort);
    assert_eq!(refusal(&series, -1.0, 1.0), RefusalKind::Gap);
    assert_eq!(refusal(&series, 2.0, 1.0), RefusalKind::TooShort);
    assert!(series.energy(Seconds(f64::NAN), Seconds(1.0)).is_err());
}

#[test]
fn a_wrap_around_is_undone_and_a_reset_is_not() {
    let mut series = counter(Some(10_000.0));
    stepped(&mut series, 4, 9_800.0, 10_000.0);
    assert!((joules(&series, 0.5, 3.5) - 300.0).abs() < 1e-6);
    for range in [None, Some(1e9)] {
        let mut series = counter(range);
        stepped(&mut series, 2, 1e6, 1e12);
        series.add(Seconds(2.0), Reading::Counter(Joules(3.0)));
        series.add(Seconds(2.1), Reading::Counter(Joules(13.0)));
        series.add(Seconds(2.2), Reading::Counter(Joules(23.0)));
        series.add(Seconds(2.3), Reading::Counter(Joules(33.0)));
        assert_eq!(refusal(&series, 0.5, 2.2), RefusalKind::Reset);
        assert!((joules(&series, 0.5, 1.5) - 100.0).abs() < 1e-6, "what was before the reset stands");
        series.add(Seconds(2.4), Reading::Counter(Joules(43.0)));
        assert_eq!(refusal(&series, 2.05, 2.25), RefusalKind::Reset, "the first step after it is not known whole");
        assert!((joules(&series, 2.15, 2.4) - 25.0).abs() < 1e-6, "and what came after");
    }
}

#[test]
fn energy_before_the_first_step_and_after_the_last_reading_is_not_guessed() {
    let mut series = counter(None);
    // The first reading is 40 ms old: by the first change 5 J were counted in 10 ms.
    for (at, value) in [(0.04, 0.0), (0.05, 5.0), (0.1, 10.0), (0.15, 15.0), (0.2, 20.0), (0.25, 25.0)] {
        series.add(Seconds(at), Reading::Counter(Joules(value)));
    }
    assert_eq!(series.first(), Some(Seconds(0.05)));
    assert_eq!(refusal(&series, 0.04, 0.2), RefusalKind::Gap);
    assert!((joules(&series, 0.05, 0.25) - 20.0).abs() < 1e-9);
    assert_eq!(refusal(&series, 0.05, 0.4), RefusalKind::Gap);
    let mut series = power(NONE);
    (0..20).for_each(|tick| series.add(Seconds(f64::from(tick) * 0.1), Reading::Power(Watts(10.0))));
    assert_eq!(refusal(&series, 0.5, 2.0), RefusalKind::Gap);
}

#[test]
fn idle_power_holds_nothing_of_the_step_that_straddles_its_end() {
    let mut series = counter(None);
    for tick in 0..20 {
        let at = f64::from(tick) * 0.1;
        // From 1.02 s on the load is ten times as high.
        let joules = 100.0 * at + 900.0 * (at - 1.02).max(0.0);
        series.add(Seconds(at), Reading::Counter(Joules(joules)));
    }
    assert!((series.mean_power(Seconds(0.15), Seconds(1.02)).unwrap().0 - 100.0).abs() < 1e-6);
    assert!(joules(&series, 0.15, 1.02) > 100.0 * 0.87 + 10.0, "interpolated, it would");
}

#[test]
fn a_counter_that_leaps_is_not_believed() {
    let mut series = counter(None);
    stepped(&mut series, 2, 0.0, 1e12);
    series.add(Seconds(2.0), Reading::Counter(Joules(1e9)));
    assert_eq!(refusal(&series, 0.5, 2.0), RefusalKind::Reset);
}

#[test]
fn a_counter_that_may_have_gone_round_between_two_readings_is_not_believed() {
    // 5 kW go round 10 kJ in 2 s.
    let mut series = counter(Some(10_000.0));
    stepped(&mut series, 2, 0.0, 10_000.0);
    series.add(Seconds(4.5), Reading::Counter(Joules(300.0)));
    for tick in 0..20 {
        series.add(Seconds(4.6 + 0.1 * f64::from(tick)), Reading::Counter(Joules(310.0 + 10.0 * f64::from(tick))));
    }
    let hidden = series.energy(Seconds(0.5), Seconds(4.7)).unwrap_err();
    assert!(hidden.kind == RefusalKind::Reset && hidden.remedy.contains("--interval"), "{hidden}");
    assert!((joules(&series, 0.5, 1.5) - 100.0).abs() < 1e-6, "what was before stands");
    assert!((joules(&series, 5.0, 6.0) - 100.0).abs() < 1e-6, "and what came after");
}

#[test]
fn power_is_joined_by_trapezoids_and_holes_are_not() {
    let mut series = power(NONE);
    for tick in 0..=40 {
        let at = f64::from(tick) * 0.1;
        series.add(Seconds(at), Reading::Power(Watts(100.0 * at)));
    }
    assert!((joules(&series, 1.0, 3.0) - 400.0).abs() < 1e-6);
    series.add(Seconds(6.0), Reading::Power(Watts(100.0)));
    series.add(Seconds(6.1), Reading::Power(Watts(100.0)));
    assert_eq!(refusal(&series, 3.0, 6.0), RefusalKind::Gap);
    assert!((joules(&series, 1.0, 3.0) - 400.0).abs() < 1e-6);
    let mut averaged = power(Seconds(1.0));
    (0..50).for_each(|tick| averaged.add(Seconds(f64::from(tick) * 0.1), Reading::Power(Watts(10.0))));
    assert_eq!(refusal(&averaged, 1.0, 2.5), RefusalKind::TooShort);
    assert!((joules(&averaged, 1.0, 3.5) - 25.0).abs() < 1e-6);
}

#[test]
fn a_lost_device_stays_unknown_from_its_last_reading_on() {
    let mut series = power(NONE);
    (0..20).for_each(|tick| series.add(Seconds(f64::from(tick) * 0.1), Reading::Power(Watts(10.0))));
    for _ in 0..3 {
        series.fail(Seconds(2.0), Refusal::new(RefusalKind::Lost, "gone", ""));
    }
    assert_eq!(refusal(&series, 1.0, 1.95), RefusalKind::Lost);
    assert_eq!(refusal(&series, 100.0, 200.0), RefusalKind::Lost);
    assert!((joules(&series, 0.5, 1.5) - 10.0).abs() < 1e-6);
}

#[test]
fn a_reading_that_is_no_number_is_no_sample() {
    let mut series = power(NONE);
    (0..20).for_each(|tick| series.add(Seconds(f64::from(tick) * 0.1), Reading::Power(Watts(10.0))));
    series.add(Seconds(2.0), Reading::Power(Watts(f64::NAN)));
    series.add(Seconds(2.05), Reading::Power(Watts(-5.0)));
    series.add(Seconds(2.1), Reading::Power(Watts(10.0)));
    assert_eq!(series.samples(), 21);
    assert!((joules(&series, 1.0, 2.1) - 11.0).abs() < 1e-6);
}

#[test]
fn a_day_of_samples_is_thinned_and_keeps_its_ends() {
    let mut series = power(NONE);
    series.pin(Seconds(10.03));
    for tick in 0..864_000_u32 {
        let at = f64::from(tick) * 0.1;
        let load = if (10.0..10.1).contains(&at) { 1_000.0 } else { 100.0 };
        series.add(Seconds(at), Reading::Power(Watts(load)));
    }
    assert!(series.points.len() < 100_000, "{}", series.points.len());
    let all = joules(&series, 0.0, 86_399.0);
    assert!((all - 100.0 * 86_399.0 - 90.0).abs() < 1.0, "{all}");
    let near_pin = joules(&series, 9.95, 10.15);
    // Half the rise, the whole fall, and 50 ms at 100 W.
    assert!((near_pin - 87.5).abs() < 1e-3, "{near_pin}");
}
