"""What the standard asks of an object, from the tables of PS3.3 that highdicom carries."""

from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map, get_sop_class_iod_map

CONTENT = "sr-document-content"  # its table has the attributes of all value types together
VALUES = {  # PS3.3, C.17.3: what a content item of each type has
    "CODE": "ConceptCodeSequence", "NUM": "MeasuredValueSequence", "TEXT": "TextValue", "UIDREF": "UID",
    "IMAGE": "ReferencedSOPSequence", "CONTAINER": "ContinuityOfContent",
}  # fmt: skip


def faults(made):
    """Attributes that mandatory modules want (type 1 with a value, type 2 at all) and that are not there,
    those of no module of the object's class, and content items that are not whole."""
    modules = get_iod_module_map()[get_sop_class_iod_map()[made.SOPClassUID]]
    tables, found, known = get_module_attribute_map(), [], set()
    for module in modules:
        for each in tables[module["key"]]:
            if not each["path"]:
                known.add(each["keyword"])
            if module["usage"] != "M" or module["key"] == CONTENT or each["type"] not in ("1", "2"):
                continue
            for item in _items(made, each["path"]):
                if each["keyword"] not in item or (each["type"] == "1" and item[each["keyword"]].is_empty):
                    found.append(f"{'.'.join([*each['path'], each['keyword']])} of {module['key']}")
    if any(module["key"] == CONTENT for module in modules):
        found += _content_faults(made)
    return found + [f"{each.keyword} is of no module" for each in made if each.keyword not in known]


def _content_faults(item, below=False):
    wanted = {VALUES[item.ValueType], "ConceptNameCodeSequence", *(["RelationshipType"] if below else [])}
    found = [f"{each} of a {item.ValueType}" for each in wanted if each not in item or item[each].is_empty]
    for keyword in ("ConceptNameCodeSequence", "ConceptCodeSequence"):
        for code in item.get(keyword) or []:
            values = code.get("CodeValue"), code.get("CodingSchemeDesignator"), code.get("CodeMeaning")
            if not all(values) or len(values[0]) > 16 or len(values[2]) > 64:
                found.append(f"code {values}")
    return found + [
        each for inner in item.get("ContentSequence") or [] for each in _content_faults(inner, True)
    ]


def _items(made, path):
    items = [made]
    for keyword in path:
        items = [inner for item in items for inner in item.get(keyword) or []]
    return items
