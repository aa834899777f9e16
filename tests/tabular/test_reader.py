"""Reading the table: what is read, and every fault in it, planted and found."""

import csv

import numpy as np
import pyarrow as pa
import pytest

from stages.errors import UserError
from stages.tabular import reader as table
from stages.tabular.reader import read_batches
from tests.tabular.conftest import HEADER, SAMPLE, refusal, write_table

ROW = "30,male,25.5,1,no,southwest,4000.25"


# --- what is read ----------------------------------------------------------------------------


def test_rows_are_read_as_their_declared_types(read):
    batch = read(f"{HEADER}\n{ROW}\n-1e2,female,.5,0,yes,northeast,+7\n")
    assert batch.to_pylist() == [
        {
            "age": 30.0,
            "sex": "male",
            "bmi": 25.5,
            "children": 1.0,
            "smoker": "no",
            "region": "southwest",
            "charges": 4000.25,
        },
        {
            "age": -100.0,
            "sex": "female",
            "bmi": 0.5,
            "children": 0.0,
            "smoker": "yes",
            "region": "northeast",
            "charges": 7.0,
        },
    ]
    assert batch.column("age").type == pa.float64()
    assert batch.column("region").indices.to_pylist() == [3, 0]


def test_values_equal_those_that_python_reads(sample):
    with SAMPLE.open(newline="") as file:
        expected = list(csv.DictReader(file))
    assert sample.num_rows == len(expected) == 1338
    for found, cells in zip(sample.to_pylist(), expected, strict=True):
        assert found == {name: type(found[name])(cell) for name, cell in cells.items()}


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}\r\n{ROW}\r\n",  # Windows line ends
        f"{HEADER}\n{ROW}",  # no line end at the end
        f"\n{HEADER}\n\n\n{ROW}\n\n",  # blank lines
        f'{HEADER}\n30,"male","25.5",1,no,"southwest",4000.25\n',  # quotes
        "charges,region,smoker,children,bmi,sex,age\n4000.25,southwest,no,1,25.5,male,30\n",
        f"{HEADER}\n30.0,male,2.55e1,1.,no,southwest,+4000.250\n",
    ],
)
def test_layout_does_not_matter(read, text):
    assert read(text).equals(read(f"{HEADER}\n{ROW}\n"))


def test_the_size_of_blocks_does_not_matter(monkeypatch, schema, sample):
    monkeypatch.setattr(table, "_BLOCK_BYTES", 1000)
    batches = list(read_batches(SAMPLE, schema))
    assert len(batches) > 50
    assert pa.Table.from_batches(batches).combine_chunks().to_batches()[0].equals(sample)


def test_memory_does_not_grow_with_the_table(tmp_path, monkeypatch, schema):
    monkeypatch.setattr(table, "_BLOCK_BYTES", 1 << 16)
    header, _, rows = SAMPLE.read_text().partition("\n")

    def peak(copies):
        path = tmp_path / "table.csv"
        path.write_text(f"{header}\n{rows * copies}")
        return max(pa.total_allocated_bytes() for _ in read_batches(path, schema))

    assert peak(copies=400) < 1.5 * peak(copies=100)  # 21 and 5 MB of text


# --- faults, by the real stage ---------------------------------------------------------------


def planted(column, *cells):
    """A table whose column holds `cells`, from line 3 on, between two good rows."""
    at = HEADER.split(",").index(column)
    rows = [ROW.encode()]
    for cell in cells:
        row = ROW.encode().split(b",")
        row[at] = cell if isinstance(cell, bytes) else cell.encode()
        rows.append(b",".join(row))
    return b"\n".join([HEADER.encode(), *rows, ROW.encode()])


# fault: (table, what the message says)
FAULTS = {
    "text in a number column": (
        planted("bmi", "12;5", "heavy", "1_0", " 25"),
        [
            "column `bmi`: expected a number, but found",
            "line 3: '12;5'\n  line 4: 'heavy'\n  line 5: '1_0'\n  line 6: ' 25'",
            "decimal point",
        ],
    ),
    "text in an integer column": (
        planted("age", "thirty"),
        ["column `age`: expected a whole number, but found", "line 3: 'thirty'", "decimal point"],
    ),
    "fraction in an integer column": (
        planted("children", "1", "1.5"),
        ["column `children`: expected a whole number", "line 4: '1.5'", "`type` as `number`"],
    ),
    "numbers that are not finite": (
        planted("bmi", "nan", "inf", "-inf", "NaN", "1e309"),
        [
            "column `bmi`: expected a number",
            "line 3: 'nan'\n  line 4: 'inf'\n  line 5: '-inf'\n  line 6: 'NaN'\n  line 7: '1e309'",
            "Only finite numbers",
        ],
    ),
    "label that is not finite": (
        planted("charges", "nan"),
        ["column `charges`: expected a number", "line 3: 'nan'", "Only finite numbers"],
    ),
    "unknown category": (
        planted("region", "southwest", "south", "Southwest"),
        [
            "column `region`: expected one of `northeast`, `northwest`, `southeast`, `southwest`",
            "line 4: 'south'\n  line 5: 'Southwest'",
            "`enum`",
        ],
    ),
    "empty number": (
        planted("bmi", "", "  ", '""'),
        [
            "column `bmi`: expected a number",
            "line 3: ''\n  line 4: '  '\n  line 5: ''",
            "Missing values are not accepted",
        ],
    ),
    "empty category": (
        planted("sex", ""),
        ["column `sex`: expected one of", "line 3: ''", "Missing values are not accepted"],
    ),
    "blank label": (
        planted("charges", ""),
        ["column `charges`: expected a number", "line 3: ''", "Missing values are not accepted"],
    ),
    "several faults in a column": (
        planted("children", "", "two", "2.5"),
        [
            "line 3: ''\n  line 4: 'two'\n  line 5: '2.5'",
            "Missing values are not accepted",
            "decimal point",
            "`type` as `number`",
        ],
    ),
    "category in another character set": (
        planted("sex", "mâle".encode("latin-1")),
        ["column `sex`", r"line 3: b'm\xe2le'", "not UTF-8"],
    ),
    "number in another character set": (
        planted("bmi", "25½".encode("latin-1")),
        ["column `bmi`", r"line 3: b'25\xbd'", "not UTF-8"],
    ),
    "long cell": (planted("sex", "x" * 1000), [f"line 3: '{'x' * 60}'…\n"]),
    "line break within quotes": (planted("sex", '"ma\nle"'), [r"line 3: 'ma\nle'"]),
    "short row": (
        f"{HEADER}\n{ROW}\n30,male,25.5\n{ROW}\n",
        ["separated by ','", "Row #3: Expected 7 columns, got 3: 30,male,25.5", "double quotes"],
    ),
    "long row": (
        f"{HEADER}\n{ROW},extra\n{ROW}\n",
        [f"Row #2: Expected 7 columns, got 8: {ROW},extra", "double quotes"],
    ),
    "ragged row in another character set": (
        f"{HEADER}\n{ROW}\n".encode() + b"m\xe2le\n",
        ["Row #3: Expected 7 columns, got 1: m\ufffdle"],
    ),
    "decimal commas": (
        f"{HEADER}\n{ROW.replace('.', ',')}\n",
        ["Row #2: Expected 7 columns, got 9: 30,male,25,5,1,no,southwest,4000,25"],
    ),
    "open quote": (
        f'{HEADER}\n{ROW}\n30,"male,25.5\n{ROW}\n',
        ['Row #3: Expected 7 columns, got 2: 30,"male,25.5', "a quote belongs in double"],
    ),
    "missing column": (
        "age,sex,bmi,children,region,charges\n30,male,25.5,1,southwest,4000\n",
        ["line 1: expected the columns that the schema declares", "column `smoker` is missing\n"],
    ),
    "misspelt column": (
        f"{HEADER.replace('smoker', ' Smokers')}\n{ROW}\n",
        [
            "column `smoker` is missing\n  column ' Smokers' is not in the schema\nRename, add or",
        ],
    ),
    "extra column": (
        f"{HEADER},name\n{ROW},Ann\n",
        ["column 'name' is not in the schema\n", "add or remove columns, or correct the schema"],
    ),
    "unnamed column": (f",{HEADER}\n0,{ROW}\n", ["column '' is not in the schema"]),
    "column twice": (
        f"{HEADER},age\n{ROW},30\n",
        ["column `age` is there 2 times\n", "remove columns"],
    ),
    "no header": (f"{ROW}\n{ROW}\n", ["line 1: ", "`age` is missing", "'30' is not in the schema"]),
    "semicolons": (
        f"{HEADER}\n{ROW}\n".replace(",", ";"),
        ["are separated by ';', put ", '"dialect": {"delimiter": ";"} into the schema'],
    ),
    "header in another character set": (
        HEADER.encode() + b",gr\xf6\xdfe\n",
        ["line 1: expected column names in UTF-8, but found b'gr\\xf6\\xdfe'"],
    ),
    "UTF-16 without byte order mark": (
        f"{HEADER}\n{ROW}\n".encode("utf-16-le"),
        ["the bytes 61 00 67, a byte order mark, UTF-16"],
    ),
    "UTF-8 byte order mark": (
        f"\ufeff{HEADER}\n{ROW}\n",
        ["the bytes ef bb bf, a byte order mark", "Save it as UTF-8 without byte order mark"],
    ),
    "UTF-16 byte order mark": (
        f"{HEADER}\n{ROW}\n".encode("utf-16"),
        ["the bytes ff fe 61, a byte order mark", "Save it as UTF-8 without byte order mark"],
    ),
    "UTF-16 byte order mark, other order": (
        f"\ufeff{HEADER}\n{ROW}\n".encode("utf-16-be"),
        ["the bytes fe ff 00, a byte order mark", "Save it as UTF-8 without byte order mark"],
    ),
    "empty file": ("", ["there are no rows"]),
    "blank file": ("\n\n", ["there are no rows"]),
    "header only": (f"{HEADER}\n", ["there are no rows"]),
    "header only, no line end": (HEADER, ["there are no rows"]),
    "cell longer than Python's csv reads": (
        f"{'a' * 200_000}\n{ROW}\n",
        ["expected values separated by ',', but: CSV parse error: Row #2: Expected 1 columns"],
    ),
    "line longer than a block": (
        f"{HEADER}\n{ROW}\n" + "x" * (3 << 20) + "\n",
        ["expected values separated by ',', but: straddling object"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_table_is_refused(project, fault):
    content, says = FAULTS[fault]
    write_table(project, content)
    message = refusal(project)
    assert message.startswith("error: data/sample_medical_data.csv: ")
    for words in says:
        assert words in message


def test_a_missing_table_is_refused(project):
    project.set(data="data/patients.csv")
    message = refusal(project)
    assert "error: data/patients.csv: no such file. It should be the table" in message


def test_a_folder_as_table_is_refused(project):
    project.set(data="data")
    assert "error: data: expected a table, but it cannot be read" in refusal(project)


# --- faults, where they are found ------------------------------------------------------------


def message_of(tmp_path, schema, text):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        list(read_batches(path, schema))
    return str(caught.value)


def with_faults(fault, lines):
    """A table of 2,000 rows with a faulty one at each of `lines`; the header is line 1."""
    return "\n".join([HEADER, *(fault if at in lines else ROW for at in range(2, 2002))]) + "\n"


@pytest.fixture(params=[500, 1 << 20])
def _block_bytes(monkeypatch, request):
    monkeypatch.setattr(table, "_BLOCK_BYTES", request.param)


@pytest.mark.usefixtures("_block_bytes")
def test_the_first_five_bad_lines_are_named_wherever_they_are(tmp_path, schema):
    lines = [7, 8, 900, 1500, 1999, 2000, 2001]
    message = message_of(tmp_path, schema, with_faults(ROW.replace("male", "other"), lines))
    named = [line for line in lines if f"  line {line}: 'other'\n" in message]
    assert named == lines[:5]
    assert message.count("  line ") == 5


@pytest.mark.usefixtures("_block_bytes")
@pytest.mark.parametrize("first", [7, 900, 2001])
def test_the_first_row_of_another_length_is_named_wherever_it_is(tmp_path, schema, first):
    message = message_of(tmp_path, schema, with_faults(f"{ROW},extra", [first, 2001]))
    assert f"Row #{first}: Expected 7 columns, got 8: {ROW},extra. Mend" in message


@pytest.mark.parametrize(
    ("fault", "named"),
    [(ROW.replace("male", "other"), "  line 3: 'other'"), ("other", "Row #3: ")],
)
def test_blank_lines_are_not_counted(tmp_path, schema, fault, named):
    text = f"\n{HEADER}\n\n\n{ROW}\n\n{fault}\n"
    assert named in message_of(tmp_path, schema, text)


@pytest.mark.parametrize("cell", ["17", "65", "-1e300", "1e308"])
def test_numbers_beyond_their_bounds_are_no_fault(read, cell):
    batch = read(f"{HEADER}\n{ROW.replace('25.5', cell)}\n")
    np.testing.assert_array_equal(batch.column("bmi"), [float(cell)])
