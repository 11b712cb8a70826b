from r1prov.responses.exchange import field_values


def test_a_field_is_found_in_any_letter_case_and_keeps_its_order():
    headers = (("Accept", "a"), ("signature", " one\t"), ("Signature", "two"), ("X", "Signature"))
    assert field_values(headers, "SIGNATURE") == ("one", "two")
    assert field_values(headers, "absent") == ()
