"""List the words by which answers name, confirm, deny and compare, by language.

Words are in lower case and parted by spaces as tokens are. Scripts without spaces are listed as
written; their entries are compared with the letters beside an option.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _signs(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    """Return the phrases of a text, parted by commas, the longest first."""
    return tuple(sorted({part.strip() for part in text.split(",")}, key=lambda part: -len(part)))


# --- What stands before an answer. ---------------------------------------------------------------
ANSWER_NOUNS = _words("""
    answer ans answers solution réponse antwort lösung respuesta resposta risposta ответ
    ответом odpowiedź odpověď cevap yanıt antwoord svar svaret vastaus válasz răspunsul
    jawaban jawabannya απάντηση відповідь án الإجابة الجواب إجابة جواب الاجابة उत्तर जवाब 정답은
    답은 정답 답 answer's correcta
""")
OPTION_NOUNS = _words("""
    option choice letter alternative choose pick select option(s) opción opção opzione optie вариант
    الخيار विकल्प 선택지 보기
""")
UNSPACED_ANSWER_NOUNS = _signs("""
    答案 答え 正解 回答 คำตอบ ตอบ 应选 應選 选择 選擇 选 選 选项 選項 選択肢 ข้อ
""")
# Words that may stand between "answer" and the option.
LEAD_FILLERS = _words("""
    is are be would should must will could may might can the an so then that option choice
    letter most likely definitely clearly probably therefore thus correct right best number
    corretta correta simply just est la le ist die der lautet richtige correcta correcte es
    la el é a o è to jest это — = är ár er on on este adalah là هي هو الصحيحة الصحيح है
""")
UNSPACED_LEAD_FILLERS = _signs("""
    ที่ถูกต้อง ที่ถูก 应该是 應該是 就是 是 为 為 はこれ は คือ ： 选 選
""")
# Words after which a bare letter stands for an option although nothing calls it one.
LETTER_LEADS = _words("""
    is be matches it's that's i'd say choose chose pick picked select selected with guess think
    believe so therefore thus hence definitely clearly probably likely certainly perhaps
    maybe but → ⇒ one's like take what towards toward that что que dass je elijo escojo wähle
    nehme choisis choisirais выбираю escolho scelgo kies wybieram pilih denke glaube hmm for
    to's therefore, est ist es é è это
""")
CHOOSING = _words("take with say choose chose pick picked select selected guess")
# What follows a letter, with or without a space, where it is the name of an option.
LETTER_ENDINGS = _signs("""
    です だ が正 が答 번 라고 이라고 입니다 이다 예요 이에요 이 정답 가 정답 을 선택 를 선택
    选项 選項 是正 正确 正確 是对的 对 项 項 が適切 を選
""")

# "The snow suggests winter", "so winter": what a text comes to.
CONCLUDING = (
    r"(?:\b(?:so|therefore|thus|hence|suggests?|suggesting|indicates?|indicating|points? to|means"
    r"|meaning|implies|go with|going with|settle on|lean towards?|opt for"
    r"|stick with|vote for|leaves|leaving|must be|in conclusion|donc|also|daher|por tanto|значит)\b"
    r"|:|所以|因此)"
)
# What may look like one option and be another: "It looks like red, but it is blue".
SEEMING = (
    r"(?i)\b(?:looks?|seems?|appears?|sounds?|could|might|may|thought|first|tempting|similar)\b"
)

# --- What stands after an answer. ----------------------------------------------------------------
CONFIRMING = _phrases("""
    for sure, to me, for me, i think, i guess, i believe, in my opinion, by far,
    seems most, seems the most, seems to be the, appears to be the, appears correct, sounds right,
    makes the most sense, fits best, is the most, best fits, best describes, best matches,
    is correct, is right, is true, is the answer, is the correct, is the right, is the best,
    is my, would be my, is the odd, is best, is the one, seems correct, seems right, seems best,
    would be correct,
    would be right, would be the, must be correct, must be right, must be the, is most likely,
    it is, looks right, looks correct, are correct, should be correct, should be the,
    was correct, is accurate, est correct, est correcte, est la bonne, est la réponse,
    ist richtig, ist korrekt, ist die richtige, es correcta, es correcto, es la correcta,
    es la respuesta, está correta, é a correta, é a resposta, è corretta, è la risposta, верно,
    правильный, правильно, является, सही है, صحيح, صحيحة, هو الصحيح, هي الصحيحة, is de juiste,
    doğru, doğrudur
""")
UNSPACED_CONFIRMING = _signs("""
    是正确 正确 是正確 正確 是对的 是對的 对 が正解 が正しい が答え ถูกต้อง 가 정답 이 정답
    가 맞 이 맞
""")

AFTER_A_NAME = _words("""
    rather instead not here then overall anyway
    matches fits describes works represents depicts does
    because since as although though while whereas parce weil da porque pues потому perché
    omdat
""")

# --- What denies. --------------------------------------------------------------------------------
NEGATORS = _words("""
    doubt doubtful doubts mistake mistaken opposite contrary lacks lacking sans ohne sin
    senza sem без zonder utan less not never neither nor no cannot without except excluding
    exclude excludes excluded hardly scarcely unlike unlikely reject rejected rejecting
    eliminate eliminated eliminating false wrong incorrect incorrectly ain't nope exclude
    rule ruled ruling isn doesn pas jamais ni non sauf nicht kein keine keinen keiner nie
    niemals weder noch falsch nunca ningún ninguna tampoco não nem não nunca mai né niet geen
    noch inte ej ikke ei не нет ни нельзя nie není ne nem değil değildir yok không chẳng
    bukan tidak bukanlah jangan nu ليس ليست وليس وليست لا لم لن غير ما नहीं न मत ना δεν όχι
    לא אינו 아니라 아니다 아니고 아닙니다 아니에요 아니야 아닌
""")
NEGATING_PHRASES = _phrases("""
    nothing like, not at all, rather than, instead of, other than, far from,
    au lieu de, plutôt que, en lugar de, en vez de
""")
# These deny what they follow.
AFTER_NEGATORS = _words("""
    değil değildir नहीं 아니라 아니다 아니고 아닙니다 아니에요 아니야 아닌 아님
""")
WRONG = _words("""
    wrong incorrect false excluded out impossible unlikely mistaken untrue ruled eliminated
    rejected faux fausse incorrecte incorrecta incorrecto errada errado falsa falso sbagliata
    sbagliato falsch неверно неправильно неверный неверен fout onjuist felaktig yanlış sai
    salah خطأ خاطئة خاطئ गलत 틀렸다 틀립니다 틀렸습니다 틀려요 틀렸고 틀리고
""")
UNSPACED_NEGATORS = _signs("""
    不是 并非 並非 绝非 不 非 没有 沒有 没 別 别 无 ไม่ใช่ ไม่ มิใช่ ບໍ່ មិន 不会是 排除
""")
UNSPACED_AFTER_NEGATORS = _signs("""
    ではな じゃな ではあり でない ではござ じゃあり ではなく 不对 不對 不正确 不正確 是错 是錯
    错 錯 不符 は違 は間違 は誤 は不正解 ไม่ถูก ผิด 不可能 被排除 を除
""")
ARTICLES = _words("""
    a an the el la le les der die das den un une una il lo que es is it being
""")
TICKS = _words("✓ ✔ ✅")
CROSSES = _words("❌ ✗ ✘ ✖ 🚫")
VERDICT_RIGHT = _words("right correct true ✓ ✔ ✅ 正确 richtig correcto correct juste верно")
VERDICT_WRONG = WRONG | NEGATORS | CROSSES | {"no"}
# "n't" ends a negator; these end an assertion that only looks like a denial.
ASSERTING_PHRASES = _phrases("""
    no doubt, without doubt, without a doubt, none other than, nothing but, no other than,
    nothing other than, no question, sans doute, sin duda, ohne zweifel, sem dúvida,
    without question, without any doubt, odd one out, out of(?! [a-z])
""")

# These say that more than one is meant.
NOT_ONLY = _phrases("""
    not only, not just, isn't only, isn't just, nicht nur, non seulement, no solo, no sólo,
    non solo, não só, не только
""")

# --- What weakens, compares or turns. ------------------------------------------------------------
NOT_QUITE = _phrases("""
    than, unlike, similar to, close to, almost, nearly, not quite, compared to,
    compared with, opposed to, used to be, was once, no longer, formerly, near, resembles,
    resembling, besides, apart from, aside from, whether, if, unless, wenn, ob, als, que si
""")
LIMITS = _phrases("""
    at least, at most, more than, less than, fewer than, over, under, above, below, up to,
    minimum, maximum, between, from, before, after
""")
REASONS = _words("""
    because since as although though while whereas despite parce puisque weil da obwohl
    denn porque pues aunque потому perché poiché omdat
""")
UNSPACED_REASONS = _signs("""
    因为 因為 虽然 雖然 なぜなら เพราะ
""")
TURNS = _words("""
    but sondern sino mais mas ma maar но а utan bez ale lecz tylko بل لكن बल्कि mà tapi tetapi
    melainkan ama pero however 그러나 하지만
""")
# Before "but" or "except": what follows is left out, or is all there is.
_ONES = (
    r"(?: (?:one|two|three|four|five|single|other|of|the|them|these|those"
    r"|options?|choices?|answers?))*"
)
ALL_BUT = (
    r"(?:(?:any|every)(?:where|body|thing|one)"
    rf"|(?:any|every|each)(?: (?!one\b)\w+)?|all(?: the \w+)?|both){_ONES}"
)
NOTHING_BUT = rf"(?:no(?:where|body|thing|t)|none|no){_ONES}"
UNSPACED_TURNS = _signs("""
    而是 而应 แต่
""")
ALSO = _words("also equally both aussi auch también também anche тоже также または 또는")
JOINING = _words("""
    and or and/or vs versus & / + | et ou und oder y o u e и или och eller en of i lub ve veya
    و أو और या hoặc và atau dan και ή 또는 혹은
""")
OR = _words("or nor ou ni oder noch o или ни noch eller lub ani veya أو या")
OF_SEVERAL = _words(
    "are were aren't weren't can cannot can't both all sind son sont seem look do don't"
)
OTHERS = _words("rest other others remaining")
BETWEEN_JOINED = _words("""
    maybe perhaps possibly option letter either the a an is it be even number 
""")
UNSPACED_JOINING = _signs("""
    か 還是 和 或 或者 与 與 及 と や และ หรือ 、 还是
""")
CORRECTIONS = _phrases("""
    wait, sorry, correction, scratch that, on second thought, on second thoughts, i mean,
    hold on, my mistake, oops, let me reconsider, let me rethink, let me correct,
    i take that back, or rather, pardon, 不对等等
""")
# "Between red and blue, blue" compares the first two.
BETWEEN = r"(?:between|entre|zwischen|tra|fra|между)"
# "It is red, isn't it?" asks for assent.
TAG_QUESTION = (
    r", ?(?:(?:is|are|was|were|do|does|did|has|have|ca|wo|would)n't (?:it|they|that|there|this)"
    r"|right|correct|no|yes|ok|nicht wahr|oder|non|verdad|не так ли) ?\?"
)

# --- Words that are options only where they stand as an answer of their own. ---------------------
INTERJECTIONS = _words("""
    yes no yeah nope yep ok none neither both all either oui non si sí ja nein nee да нет tak
    nie evet hayır نعم لا हाँ हां नहीं はい いいえ 예 네 아니요 아니오 是 否 有 没 对 不 会 能 不是
    không có ya tidak a an the is are was were be am it this that of to i as and or not
    he she we you they do does did has have had one
""")
YES_NO = {"yeah": "yes", "yep": "yes", "yup": "yes", "nope": "no", "nah": "no"}
# Words that may stand beside such an answer in its clause.
OPENERS = _words("""
    well so oh um uh hmm then i i'd i'll it's that's would will say think guess believe therefore
    thus hence definitely clearly certainly probably obviously the answer is it final simply just a
    my eh => -> only bien alors also nun pues bueno então ну
""")
PRONOUNS = _words("""
    it it's there there's that's i'm he's she's they're he she they this that these those i we
    you isn't aren't ce il das es
""")

# --- Options that speak of the other options. ----------------------------------------------------
_NAMES = "options|choices|answers|alternatives"
_SETS = (
    rf"(?:the )?(?:above|these|those|them|(?:given |listed |other )?(?:{_NAMES})"
    rf"(?: (?:above|given|listed))?|given|listed)(?: (?:{_NAMES}|ones))?"
)
SET_HEADS = ("none", "all", "both", "neither")
OF_THEM = rf" of {_SETS}"

# --- Endings and neighbours. ---------------------------------------------------------------------
KOREAN_ENDINGS = _words("""
    입니다 이다 이에요 예요 에요 이예요 이야 야 은 는 이 가 을 를 의 에 에서 로 으로 와 과 도
    만 요 이요 인 인데 이라고 라고 이라 라 이며 며 이고 고 이죠 죠 이지요 일 것 임 이었다 였다
    이었습니다 였습니다 이란 란 번 번입니다 이나 나 하고 이랑 랑 보다 처럼 부터 까지
""")
UNSPACED_BEFORE = _signs("""
    是 为 為 成 了 的 在 选 選 叫 有 这 那 它 只 个 個 匹 条 條 头 頭 辆 张 一 种 種 应 说 说是
    はい は が も を に の で と や 、 คือ เป็น ว่า ตอบ ใช่ 和 或 与 及 และ หรือ 案 แต่ え また
    く くて ແມ່ນ គឺ
""")
UNSPACED_AFTER = _signs("""
    的 了 吧 啊 呢 呀 嘛 哦 也 都 就 才 而 但 和 或 与 及 是 在 不 对 正 错 因 です だ で は が
    を に の と や も か よ ね い じゃ ครับ ค่ะ คะ นะ จ้า และ หรือ แน่ เพราะ ไม่ 選 项 項
""")

# --- Numbers. ------------------------------------------------------------------------------------
# Only where the whole answer is the word: several are other words elsewhere. None is English.
FOREIGN_NUMBERS: dict[str, int] = {
    word: value
    for row in (
        "zéro _ deux trois quatre cinq _ sept huit neuf dix onze douze",
        "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
        "cero _ dos tres cuatro cinco seis siete ocho nueve diez _ doce",
        "_ _ dois três quatro _ _ sete oito nove dez _ doze",
        "_ _ due tre quattro cinque _ sette otto nove dieci undici dodici",
        "ноль один два три четыре пять шесть семь восемь девять десять",
        "零 一 二 三 四 五 六 七 八 九 十 十一 十二",
        "영 하나 둘 셋 넷 다섯 여섯 일곱 여덟 아홉 열",
        "शून्य एक दो तीन चार पांच छह सात आठ नौ दस",
        "صفر واحد اثنان ثلاثة أربعة خمسة ستة سبعة ثمانية تسعة عشرة",
        "ศูนย์ หนึ่ง สอง สาม สี่ ห้า หก เจ็ด แปด เก้า สิบ",
    )
    for value, word in enumerate(row.split())
    if word != "_"
}
UNITS: dict[str, str] = {
    spelling: names.split()[0].replace("_", " ")
    for names in (
        "% percent per_cent pct", "$ dollar dollars usd", "€ euro euros eur", "£ gbp", "¥ yen jpy",
        "¢ cent cents", "° degrees degree", "km kilometres kilometers kilometre kilometer",
        "m metres meters metre meter", "cm centimetres centimeters centimetre centimeter",
        "mm millimetres millimeters millimetre millimeter", "kg kilograms kilogram kilos",
        "g grams gram", "mg milligrams milligram", "s seconds second sec", "ms milliseconds",
        "min minutes minute mins", "h hours hour hr hrs", "l litres liters litre liter",
        "mL millilitres milliliters ml", "mW", "MW", "kW", "W watts watt", "mHz", "MHz", "kHz",
        "Hz", "mΩ", "MΩ", "kΩ", "Ω ohms ohm", "mV", "kV", "V volts volt", "mA", "MB", "Mb",
        "GB", "kB",
        "ft feet foot", "in inches inch", "mi miles mile", "lb pounds pound lbs", "oz ounces ounce",
        "°C", "°F", "m^2 m2", "cm^2 cm2", "km^2 km2", "mm^2 mm2", "m^3 m3", "cm^3 cm3",
        "km/h kph", "m/s", "days day", "weeks week", "months month", "years year",
    )
    for spelling in (name.replace("_", " ") for name in names.split())
}  # fmt: skip
