import type { namedFormats, postcodeCountries } from '../../schema/config/quality.ts'
import { literal } from '../lake/names.ts'

/** A format that has a name. */
export type NamedFormat = (typeof namedFormats)[number]
type Country = (typeof postcodeCountries)[number]

/** SQL that is true when the text `value` has a named format. `country` is asked of postcodes only. */
export function hasFormat(format: NamedFormat, value: string, country?: Country): string {
  switch (format) {
    case 'date':
      return `coalesce(TRY_CAST(${value} AS DATE)::VARCHAR = ${value}, false)`
    case 'datetime':
      // The engine wants seconds; whether the day and the minute exist is all that is left to find out.
      return `(${matches(value, dateTime)} AND TRY_CAST(left(${value}, 16) || ':00' AS TIMESTAMP) IS NOT NULL)`
    case 'country':
    case 'currency':
    case 'language':
      return `${value} IN (${codes[format].split(' ').map(literal).join(', ')})`
    case 'postcode':
      return matches(value, country ? postcodes[country] : '[A-Za-z0-9][A-Za-z0-9 -]{1,8}[A-Za-z0-9]')
    case 'iban':
      return `(${matches(value, iban)} AND ${ibanDigits(value)} % 97 = 1)`
    default:
      return matches(value, patterns[format])
  }
}

const matches = (value: string, pattern: string): string => `regexp_full_match(${value}, ${literal(pattern)})`

const dateTime =
  '[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-5][0-9](\\.[0-9]{1,9})?)?(Z|[+-](0[0-9]|1[0-4]):?[0-5][0-9])?'
const octet = '(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])'
const group = '[0-9a-fA-F]{1,4}'
const label = '[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?'
const iban = '[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}'

const patterns = {
  email: `[A-Za-z0-9.!#$%&'*+/=?^_\`{|}~-]{1,64}@(${label}\\.)+${label}`,
  url: 'https?://[^\\s/?#]+[^\\s]*',
  uuid: '[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}',
  // Digits of E.164, up to 15, with the usual signs between them.
  phone: '\\+?\\(?[0-9]([ ().\\/-]{0,2}[0-9]){5,14}',
  time: '([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\\.[0-9]{1,9})?)?',
  ipv4: `${octet}(\\.${octet}){3}`,
  ipv6: `((${group}:){7}${group}|(${group}:){1,7}:|(${group}:){1,6}(:${group}){1}|(${group}:){1,5}(:${group}){1,2}|(${group}:){1,4}(:${group}){1,3}|(${group}:){1,3}(:${group}){1,4}|(${group}:){1,2}(:${group}){1,5}|${group}:(:${group}){1,6}|:((:${group}){1,7}|:))`,
  slug: '[a-z0-9]+(-[a-z0-9]+)*',
} as const

const postcodes: Readonly<Record<Country, string>> = {
  AT: '[1-9][0-9]{3}',
  AU: '[0-9]{4}',
  BE: '[1-9][0-9]{3}',
  CA: '[ABCEGHJ-NPRSTVXY][0-9][ABCEGHJ-NPRSTV-Z] ?[0-9][ABCEGHJ-NPRSTV-Z][0-9]',
  CH: '[1-9][0-9]{3}',
  DE: '[0-9]{5}',
  DK: '[0-9]{4}',
  ES: '(0[1-9]|[1-4][0-9]|5[0-2])[0-9]{3}',
  FR: '[0-9]{5}',
  GB: '(GIR ?0AA|[A-Z]{1,2}[0-9][A-Z0-9]? ?[0-9][A-Z]{2})',
  IN: '[1-9][0-9]{5}',
  IT: '[0-9]{5}',
  JP: '[0-9]{3}-?[0-9]{4}',
  NL: '[1-9][0-9]{3} ?[A-Z]{2}',
  PL: '[0-9]{2}-[0-9]{3}',
  SE: '[0-9]{3} ?[0-9]{2}',
  US: '[0-9]{5}(-[0-9]{4})?',
}

// The first four signs go to the end, letters become two digits each, and what comes out is 1 modulo 97. A HUGEINT takes
// 38 digits, so the text is taken in two parts.
function ibanDigits(value: string): string {
  const moved = `(substr(${value}, 5) || left(${value}, 4))`
  const digits = `list_aggregate(list_transform(string_split(${moved}, ''), lambda c:
    CASE WHEN c BETWEEN '0' AND '9' THEN c ELSE (ord(c) - 55)::VARCHAR END), 'string_agg', '')`
  return `((coalesce(TRY_CAST(left(${digits}, 30) AS HUGEINT), 0) % 97)::VARCHAR || substr(${digits}, 31))::HUGEINT`
}

// ISO 3166-1 alpha-2, ISO 4217 (active, with the precious metals) and ISO 639-1.
const codes = {
  country:
    'AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW',
  currency:
    'AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CLF CLP CNY COP COU CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD USN UYI UYU UYW UZS VED VES VND VUV WST XAF XAG XAU XCD XCG XDR XOF XPD XPF XPT XSU XUA YER ZAR ZMW ZWG',
  language:
    'aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu',
} as const
