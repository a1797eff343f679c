from accord.compare.run import Asked, compare
from accord.compare.show import lines
from accord.compare.page import write_page
from compare.helpers import recipe
from accord.training.display import Display

def test_first(tiny_folder, pairs_file, held_out_file, tmp_path):
    base = recipe(tiny_folder, pairs_file, held_out_file)
    record = compare(base, "dpo,ipo,kto,simpo,orpo,sft", Asked(str(tmp_path / "c"), seeds=2, samples=4, sample_tokens=6), Display())
    print("\n".join(lines(record)))
    print(write_page(record, str(tmp_path / "c"), None))
