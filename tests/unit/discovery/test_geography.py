"""Circles over countries: known cities lie in them, and known links are never refuted."""

from __future__ import annotations

import pytest

from hostmesh.discovery.geography import (
    LIGHT_KM_PER_MS,
    Circle,
    circles_of,
    min_distance_km,
    refutes,
)
from hostmesh.discovery.terms import Place

CITIES = """
AD Andorra 42.51 1.52; AE Dubai 25.20 55.27; AF Kabul 34.53 69.17; AL Tirana 41.33 19.82; AM Yerevan 40.18 44.51;
AO Luanda -8.84 13.23; AR Ushuaia -54.80 -68.30; AR Salta -24.79 -65.41; AT Vienna 48.21 16.37;
AU Perth -31.95 115.86; AU Sydney -33.87 151.21; AU Darwin -12.46 130.84; AU Hobart -42.88 147.33;
AZ Baku 40.41 49.87; BD Dhaka 23.81 90.41; BE Brussels 50.85 4.35; BG Sofia 42.70 23.32; BH Manama 26.23 50.59;
BR Manaus -3.12 -60.02; BR Recife -8.05 -34.88; BR PortoAlegre -30.03 -51.22; CA Vancouver 49.28 -123.12;
CA StJohns 47.56 -52.71; CA Iqaluit 63.75 -68.52; CA Alert 82.50 -62.35; CH Zurich 47.38 8.54;
CL Arica -18.48 -70.32; CL PuntaArenas -53.16 -70.91; CL HangaRoa -27.15 -109.43; CN Urumqi 43.83 87.62;
CN Harbin 45.80 126.53; CN Sanya 18.25 109.51; CO Bogota 4.71 -74.07; CY Nicosia 35.19 33.38; CZ Prague 50.08 14.44;
DE Flensburg 54.78 9.44; DE Freiburg 48.00 7.84; DE Goerlitz 51.15 14.99; DK Copenhagen 55.68 12.57;
DZ Tamanrasset 22.79 5.52; EC Quito -0.18 -78.47; EC PuertoAyora -0.74 -90.31; EE Tallinn 59.44 24.75;
EG Cairo 30.04 31.24; ES Madrid 40.42 -3.70; ES LasPalmas 28.12 -15.43; ET AddisAbaba 9.03 38.74;
FI Utsjoki 69.91 27.03; FI Mariehamn 60.10 19.93; FJ Suva -18.14 178.44; FR Paris 48.86 2.35; FR Ajaccio 41.93 8.74;
FR SaintDenis -20.88 55.45; FR Cayenne 4.92 -52.31; FR Noumea -22.27 166.45; FR Papeete -17.54 -149.57;
GB London 51.51 -0.13; GB Lerwick 60.15 -1.14; GB StHelier 49.18 -2.11; GE Tbilisi 41.72 44.79; GH Accra 5.60 -0.19;
GL Nuuk 64.18 -51.72; GP PointeAPitre 16.24 -61.53; GR Heraklion 35.34 25.13; GU Hagatna 13.47 144.75;
HK HongKong 22.32 114.17; HU Budapest 47.50 19.04; ID BandaAceh 5.55 95.32; ID Jayapura -2.54 140.70;
IE Dublin 53.35 -6.26; IL TelAviv 32.09 34.78; IN Srinagar 34.08 74.80; IN Chennai 13.08 80.27;
IN PortBlair 11.62 92.73; IR Tehran 35.69 51.39; IS Reykjavik 64.15 -21.94; IT Palermo 38.12 13.36;
JP Tokyo 35.68 139.69; JP Naha 26.21 127.68; JP Wakkanai 45.42 141.67; KE Nairobi -1.29 36.82; KI Tarawa 1.33 172.98;
KI Kiritimati 1.98 -157.48; KR Seoul 37.57 126.98; KZ Almaty 43.24 76.89; LK Colombo 6.93 79.86;
LU Luxembourg 49.61 6.13; MA Casablanca 33.57 -7.59; MG Antananarivo -18.88 47.51; MT Valletta 35.90 14.51;
MU PortLouis -20.16 57.50; MX Tijuana 32.51 -117.04; MX Cancun 21.16 -86.85; MY Kuching 1.55 110.36;
MY Penang 5.41 100.33; NG Lagos 6.52 3.38; NL Amsterdam 52.37 4.90; NL Willemstad 12.11 -68.93; NO Oslo 59.91 10.75;
NO Longyearbyen 78.22 15.65; NO Kirkenes 69.73 30.05; NZ Auckland -36.85 174.76; NZ Dunedin -45.87 170.50;
NZ Waitangi -43.95 -176.56; PE Lima -12.05 -77.04; PF Papeete -17.54 -149.57; PG PortMoresby -9.44 147.18;
PH Manila 14.60 120.98; PK Karachi 24.86 67.00; PL Warsaw 52.23 21.01; PR SanJuan 18.47 -66.11;
PT Lisbon 38.72 -9.14; PT PontaDelgada 37.74 -25.67; PT Funchal 32.65 -16.91; PY Asuncion -25.26 -57.58;
RE SaintDenis -20.88 55.45; RO Bucharest 44.43 26.10; RS Belgrade 44.79 20.45; RU Moscow 55.76 37.62;
RU Kaliningrad 54.71 20.51; RU Vladivostok 43.12 131.89; RU Anadyr 64.73 177.51; RU Uelen 66.16 -169.81;
SA Riyadh 24.71 46.68; SE Kiruna 67.86 20.23; SG Singapore 1.35 103.82; SN Dakar 14.72 -17.47;
TH Bangkok 13.76 100.50; TN Tunis 36.81 10.18; TR Van 38.49 43.38; TW Taipei 25.03 121.57; CN Taipei 25.03 121.57;
UA Kyiv 50.45 30.52; UA Sevastopol 44.62 33.53; RU Sevastopol 44.62 33.53; US NewYork 40.71 -74.01;
US SanDiego 32.72 -117.16; US Anchorage 61.22 -149.90; US Honolulu 21.31 -157.86; US Adak 51.88 -176.66;
US SanJuan 18.47 -66.11; US Hagatna 13.47 144.75; US PagoPago -14.28 -170.70; UY Montevideo -34.90 -56.16;
UZ Tashkent 41.30 69.24; VN Hanoi 21.03 105.85; VN HoChiMinhCity 10.82 106.63; XK Pristina 42.66 21.17;
RS Pristina 42.66 21.17; YE Aden 12.79 45.02; ZA CapeTown -33.92 18.42; ZA PrinceEdward -46.88 37.75;
ZM Lusaka -15.39 28.32; ZW Harare -17.83 31.05; AQ McMurdo -77.85 166.67
"""
"""Country, name, latitude, longitude; places that lie far from the rest of their country are among them."""

ISO_CODES = """
AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ
CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO
FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE
JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO
MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW
PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM
TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
"""
"""Of ISO 3166-1 alpha-2, all of them."""


def at(code: str) -> Place:
    return Place(country_code=code)


def cities() -> list[tuple[str, str, Circle]]:
    rows = [row.split() for row in CITIES.replace("\n", " ").split(";")]
    return [
        (code, name, Circle(latitude_deg=float(north), longitude_deg=float(east), radius_km=0.0))
        for code, name, north, east in rows
    ]


def test_every_country_has_circles() -> None:
    codes = ISO_CODES.split()
    assert len(codes) == 249
    assert [code for code in codes if not circles_of(at(code))] == []
    assert circles_of(at("ZZ")) == ()
    for code in codes:
        for circle in circles_of(at(code)):
            assert -90 <= circle.latitude_deg <= 90
            assert -180 <= circle.longitude_deg <= 180
            assert 0 < circle.radius_km < (2600 if code == "AQ" else 1000)


@pytest.mark.parametrize(("code", "name", "city"), cities(), ids=lambda value: str(value)[:20])
def test_a_known_city_lies_in_its_country(code: str, name: str, city: Circle) -> None:
    assert min(circle.gap_km(city) for circle in circles_of(at(code))) == 0.0


@pytest.mark.parametrize(
    ("code", "latitude", "longitude"),
    [("US", 51.5, -0.1), ("DE", 40.7, -74.0), ("AU", 35.7, 139.7), ("GB", 41.9, 12.5), ("FR", 35.7, 139.7)],
)
def test_the_circles_are_not_the_whole_world(code: str, latitude: float, longitude: float) -> None:
    city = Circle(latitude_deg=latitude, longitude_deg=longitude, radius_km=0.0)
    assert min(circle.gap_km(city) for circle in circles_of(at(code))) > 500


def test_the_least_distance_is_below_that_of_the_nearest_known_cities() -> None:
    """The nearest points that are known, in kilometres as atlases give them."""
    for a, b, most_km in [
        ("US", "RU", 4),  # the Diomede Islands
        ("ES", "MA", 15),
        ("GB", "FR", 34),
        ("AU", "PG", 5),
        ("IN", "LK", 32),
        ("IE", "US", 5000),  # Boston to Galway is about 4,700; Puerto Rico is farther
        ("DE", "AU", 11_000),
        ("JP", "US", 2600),  # Guam to the Bonin Islands is nearer still
    ]:
        assert min_distance_km(at(a), at(b)) <= most_km, (a, b)
        assert min_distance_km(at(a), at(b)) == min_distance_km(at(b), at(a))


@pytest.mark.parametrize(
    ("here", "there", "rtt_ms"),
    [
        ("GB", "US", 58.95),  # London and New York by the shortest cable, Hibernia Express
        ("DE", "GB", 4.2),  # Frankfurt and London by radio
        ("JP", "US", 90.0),
        ("SG", "AU", 60.0),
        ("BR", "PT", 60.0),  # Fortaleza and Sines, EllaLink
        ("ZA", "BR", 63.0),  # Luanda and Fortaleza, on to Cape Town
    ],
)
def test_a_link_that_exists_is_not_refuted(here: str, there: str, rtt_ms: float) -> None:
    assert refutes(rtt_ms, at(here), at(there)) == ""


@pytest.mark.parametrize(
    ("here", "there", "rtt_ms"), [("DE", "AU", 60.0), ("US", "SG", 20.0), ("GB", "US", 20.0), ("JP", "DE", 40.0)]
)
def test_what_is_faster_than_light_is_refuted(here: str, there: str, rtt_ms: float) -> None:
    why = refutes(rtt_ms, at(here), at(there))
    assert f"claims {there} and answered in {rtt_ms:.1f} ms" in why
    assert refutes(2 * min_distance_km(at(here), at(there)) / LIGHT_KM_PER_MS, at(here), at(there)) == ""


@pytest.mark.parametrize("own", [None, Place(country_code="ZZ")])
def test_who_is_nowhere_known_refutes_nothing(own: Place | None) -> None:
    assert refutes(0.0, own, at("AU")) == ""
    assert refutes(0.0, at("DE"), Place(country_code="ZZ")) == ""
    assert refutes(0.0, at("DE"), at("DE")) == ""


def test_a_region_is_as_far_as_its_country() -> None:
    assert min_distance_km(Place.parse("US/california"), at("DE")) == min_distance_km(at("US"), at("DE"))
