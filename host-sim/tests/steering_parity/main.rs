//! Parity of the steering: the core against recorded runs of the reference, and against a naive model
//! of it on made-up lines.

mod files;
mod model;

use files::{HEADER, expected_row, golden, golden_inputs};
use model::{ConfidenceParameters, Model, Parameters, cycles_of};

#[test]
fn the_model_repeats_the_golden_recordings_to_the_last_digit() {
    let confidence = Some(ConfidenceParameters::default());
    let confident = Parameters { confidence, ..Parameters::default() };
    for (name, parameters) in
        [("so_basic.csv", Parameters::default()), ("so_conf_dry.csv", confident)]
    {
        let expected = std::fs::read_to_string(golden(name)).expect("a golden file");
        let mut lines = expected.lines();
        assert_eq!(lines.next(), Some(HEADER));
        let mut model = Model::new(&parameters);
        let inputs = golden_inputs("st_basic.csv");
        assert_eq!((inputs.len(), lines.clone().count()), (3000, 3000));
        for (seq, (input, line)) in inputs.iter().zip(lines).enumerate() {
            model.cycle(input);
            assert_eq!(expected_row(seq, &model), line, "{name}");
        }
    }
}

/// The cycle counts were observed on the reference itself.
#[test]
fn the_models_timers_last_as_long_as_those_of_the_reference() {
    let cycles = [2.0, 3.0, 5.0, 30.0, 60.0].map(cycles_of);
    assert_eq!(cycles, [40, 61, 101, 600, 1201]);
}
