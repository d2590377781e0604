"""One scene as every program would write it: what is marked, and the files that say so.

A photograph of 40 x 30 px, black but for a red block that covers the columns 4 to 19 and the rows 2
to 11 and has a blue pixel, column 12 and row 7, which is marked "eye"; "tail" isn't. So in
explgraph's pixels the box is (4, 2, 20, 12) and the mark (12.5, 7.5).
"""

import json

import numpy as np
from PIL import Image

SIZE = (40, 30)
BOX = (4.0, 2.0, 20.0, 12.0)
EYE = (12.5, 7.5)

COCO = {
    "images": [{"id": 7, "file_name": "a.png", "width": 40, "height": 30}],
    "annotations": [
        {
            "id": 1, "image_id": 7, "category_id": 3, "bbox": [4, 2, 16, 10], "area": 160,
            "iscrowd": 0, "keypoints": [12, 7, 2, 0, 0, 0], "num_keypoints": 1,
        }
    ],
    "categories": [
        {"id": 3, "name": "bird", "keypoints": ["eye", "tail"], "skeleton": [[1, 2]]}
    ],
}  # fmt: skip

CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>1</id><labels><label><name>bird</name></label></labels></task></meta>
  <image id="0" name="a.png" width="40" height="30">
    <box label="bird" source="manual" occluded="0" xtl="4.00" ytl="2.00" xbr="20.00" ybr="12.00"
      z_order="0"></box>
    <skeleton label="bird" source="manual" z_order="0">
      <points label="eye" source="manual" outside="0" occluded="0" points="12.50,7.50"></points>
      <points label="tail" source="manual" outside="1" occluded="0" points="3.00,3.00"></points>
    </skeleton>
  </image>
</annotations>
"""

_REGION = {"original_width": 40, "original_height": 30, "image_rotation": 0}
_EYE = {"x": 31.25, "y": 25.0, "width": 0.5, "keypointlabels": ["eye"]}
_BOX = {"x": 10.0, "y": 100 / 15, "width": 40.0, "height": 100 / 3, "rotation": 0}

LABEL_STUDIO = [
    {
        "id": 1,
        "data": {"image": "/data/upload/3/0a1b2c3d-a.png"},
        "file_upload": "0a1b2c3d-a.png",
        "annotations": [
            {
                "id": 9,
                "was_cancelled": False,
                "result": [
                    {**_REGION, "id": "b", "type": "rectanglelabels", "from_name": "box",
                     "to_name": "image", "value": {**_BOX, "rectanglelabels": ["bird"]}},
                    {**_REGION, "id": "k", "type": "keypointlabels", "from_name": "point",
                     "to_name": "image", "parentID": "b", "value": _EYE},
                ],
            }
        ],
        "predictions": [],
    }
]  # fmt: skip

LABEL_STUDIO_MIN = [
    {
        "id": 1,
        "image": "/data/upload/3/0a1b2c3d-a.png",
        "box": [{**_BOX, "rectanglelabels": ["bird"], **_REGION}],
        "point": [{**_EYE, **_REGION}],
        "annotator": 1,
    }
]

LABELME = {
    "version": "5.5.0",
    "flags": {},
    "shapes": [
        {"label": "bird", "points": [[20.0, 12.0], [4.0, 2.0]], "group_id": 1,
         "shape_type": "rectangle", "flags": {}},
        {"label": "eye", "points": [[12.5, 7.5]], "group_id": 1, "shape_type": "point"},
        {"label": "leaf", "points": [[1, 1], [3, 1], [3, 4]], "group_id": None,
         "shape_type": "polygon"},
    ],
    "imagePath": "a.png",
    "imageData": None,
    "imageHeight": 30,
    "imageWidth": 40,
}  # fmt: skip

VOC = """<annotation>
  <folder>VOC2007</folder><filename>a.png</filename>
  <size><width>40</width><height>30</height><depth>3</depth></size>
  <object>
    <name>bird</name><pose>Left</pose><truncated>0</truncated><difficult>0</difficult>
    <bndbox><xmin>5</xmin><ymin>3</ymin><xmax>20</xmax><ymax>12</ymax></bndbox>
    <part><name>head</name><bndbox><xmin>6</xmin><ymin>3</ymin><xmax>9</xmax><ymax>5</ymax></bndbox>
    </part>
  </object>
</annotation>
"""

DEEPLABCUT = "scorer,,,me,me,me,me\nbodyparts,,,eye,eye,tail,tail\ncoords,,,x,y,x,y\n"
DEEPLABCUT += "labeled-data,film,a.png,12.0,7.0,,\n"

# path below the annotations' folder: what to give, and the files
MARKS = {
    "coco": ("marks.json", {"marks.json": json.dumps(COCO)}),
    "cvat": ("annotations.xml", {"annotations.xml": CVAT}),
    "label studio": ("ls.json", {"ls.json": json.dumps(LABEL_STUDIO)}),
    "label studio, min": ("ls.json", {"ls.json": json.dumps(LABEL_STUDIO_MIN)}),
    "labelme": ("a.json", {"a.json": json.dumps(LABELME)}),
    "labelme, folder": (".", {"a.json": json.dumps(LABELME)}),
    "deeplabcut": ("CollectedData_me.csv", {"CollectedData_me.csv": DEEPLABCUT}),
    "deeplabcut, folder": (".", {"film/CollectedData_me.csv": DEEPLABCUT}),
    "deeplabcut, one column": ("d.csv", {
        "d.csv": "scorer,me,me\nbodyparts,eye,eye\ncoords,x,y\nlabeled-data/film/a.png,12.0,7.0\n"
    }),
    "deeplabcut, animals": ("d.csv", {
        "d.csv": "scorer,,,me,me,me,me\nindividuals,,,m1,m1,m2,m2\nbodyparts,,,eye,eye,eye,eye\n"
        "coords,,,x,y,x,y\nlabeled-data,film,a.png,12.0,7.0,,\n"
    }),
    "cub": ("parts/part_locs.txt", {
        "images.txt": "1 a.png\n", "parts/parts.txt": "1 eye\n2 tail\n",
        "parts/part_locs.txt": "1 1 12.0 7.0 1\n1 2 0.0 0.0 0\n",
    }),
    "cub, folder": (".", {
        "images.txt": "1 a.png\n", "parts/parts.txt": "1 eye\n2 tail\n",
        "parts/part_locs.txt": "1 1 12.0 7.0 1\n1 2 0.0 0.0 0\n",
    }),
    "csv": ("m.csv", {"m.csv": "name,part,x,y\na.png,eye,12.5,7.5\n"}),
    "parts.json": ("parts.json", {
        "parts.json": json.dumps({"images": {"a.png": {"eye": [12, 7], "tail": None}}})
    }),
}  # fmt: skip

_YAML = "path: .\ntrain: images\nval: images\nnames:\n  0: cat\n  1: bird\n"
_LINE = "1 0.3 0.23333333 0.4 0.33333333\n"
BOXES = {
    **{name: MARKS[name] for name in MARKS if name.split(",")[0] in (
        "coco", "cvat", "label studio", "labelme")},
    "voc": ("Annotations", {"Annotations/a.xml": VOC}),
    "voc, one": ("a.xml", {"a.xml": VOC}),
    "yolo": (".", {"labels/a.txt": _LINE, "data.yaml": _YAML}),
    "yolo, classes.txt": ("labels", {"labels/a.txt": _LINE, "labels/classes.txt": "cat\nbird\n"}),
    "yolo, of CVAT": (".", {
        "obj_train_data/a.txt": _LINE, "obj.names": "cat\nbird\n", "train.txt": "data/a.png\n"
    }),
    "yolo, of Label Studio": (".", {
        "labels/a.txt": _LINE, "classes.txt": "cat\nbird\n", "notes.json": '{"categories": []}'
    }),
    "yolo, predicted": ("labels", {
        "labels/a.txt": _LINE.replace("\n", " 0.92\n"), "data.yaml": "names: [cat, bird]\n"
    }),
    "yolo, polygon": (".", {
        "labels/a.txt": "1 0.1 0.06666667 0.5 0.1 0.5 0.4 0.2 0.4\n", "data.yaml": _YAML
    }),
    "yolo, pose": (".", {
        "labels/a.txt": _LINE.strip() + " 0.3125 0.25 2 0 0 0\n",
        "data.yaml": _YAML + "kpt_shape: [2, 3]\n",
    }),
    "cub": ("bounding_boxes.txt", {
        "images.txt": "1 a.png\n", "bounding_boxes.txt": "1 4.0 2.0 16.0 10.0\n"
    }),
    "csv": ("b.csv", {"b.csv": "name,x0,y0,x1,y1\na.png,4,2,20,12\n"}),
}  # fmt: skip


def draw(folder, *names):
    """Draw the scene into a folder, under each of the names."""
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[2:12, 4:20, 0] = 255
    pixels[7, 12] = 0, 0, 255
    for name in names or ("a.png",):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
    return folder


def lay(folder, given):
    """Write one of the table's files; gives the path to read."""
    path, files = given
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder / path
