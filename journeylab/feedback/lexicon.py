"""Words that praise or complain in English, Polish and Russian, for comments that nobody rated.

Written for this project from general knowledge of the three languages, not taken from any list. A star ends a stem; a
word without one is matched whole. A negation up to three words before turns a word around, within a clause.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

_GOOD = {
    "en": """
good great* excellent* amaz* awesome* wonderful* fantastic* superb* perfect* brilliant* outstanding* exceptional*
fabulous* terrific* best better nice* lovely love loves loved loving enjoy* pleas* pleasant* delight* happy happi*
glad satisf* content impress* recommend* thank* thanks appreciat* grateful friendly friendli* polite* courteous* kind
kindly helpful* help helped attentive* professional* knowledgeable welcom* warm comfort* comfy cozy cosy relax* calm
quiet peaceful spacious* roomy airy clean cleaner spotless* fresh freshly tasty delicious* yummy modern stylish
elegant* beautiful* bright attractive* pretty easy easily easier simple simply smooth* seamless* quick* fast faster
prompt* swift* instant* efficient* effortless* convenient* reliable* reliab* trust* honest* fair fairly generous*
plenty ample abundant* wide varied variety choice affordable* cheap cheaper value bargain worth worthwhile works
worked working fine ok okay decent adequate* solid superior top high-quality luxur* first-class flawless* favourite*
favorite* fun cool clear* intuitive* responsive* early ahead free refund* resolved solved fixed improved improvement*
improv* pleasure* joy* bonus complimentary
""",
    "pl": """
dobr* lepsz* najleps* najlepi* lepiej świetn* swietn* super superowo superow* doskonał* doskonal* wspania* rewelac*
fantastyczn* znakomit* genialn* idealn* perfekcyjn* ekstra bomba rewelka cudown* przepięk* piękn* piekn* ładn* ladn*
śliczn* mił* miło milo miła mila przyjem* przyjaz* sympatyczn* uprzejm* życzliw* zyczliw* grzeczn* pomocn* pomóg*
pomog* pomag* profesjonaln* kompetentn* fachow* rzeteln* uczciw* solidn* niezawodn* polecam poleca* polecę polece
zadowol* szczęśliw* szczesliw* ciesz* radoś* rados* dzięki dzieki dziękuj* dziekuj* wdzięczn* wdzieczn* podzięk*
uwielb* kocham lubię lubie podoba* zachwyc* zachwyt* satysfakc* szybk* szybciej błyskawiczn* blyskawiczn* sprawn*
sprawnie łatw* latwo prost* prosto wygod* komfort* przestronn* czyst* czysto schludn* śwież* swiez* smaczn* pyszn*
tani* tanio taniej atrakcyjn* korzystn* okazj* promocyjn* wart warto opłac* oplaca* bezproblem* bezpieczn* punktualn*
terminow* wcześniej wczesniej działa dziala działają działał* działaj* zadziała* jakość jakosc wzorow* nowoczesn*
czyteln* intuicyjn* przejrzyst* jasn* dokładn* dokladn* starann* porządk* porzadk* poprawn* ok okej spoko fajn* wrócę
wroce wrócimy wracam duży szerok* bogat* wybór wybor polepsz* ulepsz* popraw* rozwiąz* załatw* zalatw* naprawi* gratis
darmow* hojn* prawidłow* brawo najszybc* najtań*
""",
    "ru": """
хорош* лучш* отличн* прекрасн* замечательн* великолепн* превосходн* супер классн* класс шикарн* чудесн* потрясающ*
восхитительн* идеальн* безупречн* блестящ* фантастич* изумительн* круто крут* клёв* клев* молодц* молодец браво лучше
приятн* мил* красив* добр* дружелюбн* вежлив* отзывчив* внимательн* заботлив* любезн* приветлив* гостеприимн*
профессиональн* грамотн* компетентн* квалифицирован* надёжн* надежн* честн* помог* помощ* помочь выруч* рекоменд*
советую довол* доволь* рад рада рады радост* радует порадов* счастлив* спасибо благодар* признател* люблю любим*
нравит* понрав* восторг* восхищ* удовольств* удовлетвор* быстр* мгновенн* оперативн* вовремя раньше досрочн*
пунктуальн* легк* лёгк* прост* удобн* комфорт* уютн* простор* чист* опрятн* свеж* вкусн* дёшев* дешев* недорог*
выгодн* доступн* бесплатн* скидк* подар* бонус* качествен* качество современн* понятн* ясн* интуитивн* аккурат*
тщательн* работает работают сработал* хватает заработа* исправн* безопасн* успешн* удач* ценн* полезн* широк* богат*
нормальн* норм неплох* порядке решили решен* исправил* улучш* вернусь вернемся вернёмся обязательно оперативно чётк*
четк*
""",
}
_BAD = {
    "en": """
bad badly worse worst terribl* horribl* awful* dreadful* appalling* atrocious* abysmal* disgust* disgrac* shameful*
shame pathetic* ridiculous* unacceptable* inexcusabl* disappoint* dissatisf* unsatisf* unhappy annoy* angry anger
furious frustrat* upset* sad sadly regret* unfortunate* hate hates hated dislike* poor* lousy crap* rubbish trash
garbage junk useless* pointless worthless waste wasted broken break broke breaks fault* faulty defect* damage* crack*
torn worn dirty dirt filthy stain* smell* stink* smelly mess messy dusty sticky mould* mold* unclean rude* impolite
unfriendly unhelpful indifferent arrogant ignor* careless* incompetent* unprofessional* unreliable lazy slow slowly
slower delay* late lateness wait waited waiting queue* queu* stuck lost missing miss missed lack lacks lacked lacking
lacklustre absent empty none nothing nobody nowhere never fail* error* bug* crash* freez* froze* frozen hang* glitch*
problem* issue* trouble* difficult* hard complicated confus* unclear clumsy misleading mislead* lie lied lying fraud*
scam* cheat* fake dishonest* overpriced expensive pricey costly rip-off ripoff overcharg* charged cramped cram*
crowded overcrowd* tight narrow small tiny uncomfortable* discomfort* painful* pain hurt* ache* noisy noise loud cold
hot stale bland tasteless inedible dated outdated old tired shabby tatty run-down basic mediocre average limited
avoid* complain* complaint* refus* reject* declin* denied deny cancel* wrong* incorrect* inferior insult* nightmare*
joke boring dull dark dingy stuffy unsafe danger* unable impossible cannot couldn't can't won't wouldn't unpleasant*
minimal meagre meager sparse insufficient inadequate* unusable unresponsive forgot* forget* neglect* stopped
""",
    "pl": """
zły zła złe zle źle gorsz* gorzej najgorsz* najgorz* fataln* straszn* okropn* koszmar* tragicz* tragedi* beznadziej*
kiepsk* słab* slab* marn* nędzn* nedzn* żałosn* zalosn* dramat* masakra porażka porazka skandal* wstyd* hańb* żenad*
zenad* niedopuszczaln* rozczarow* zawied* zawiod* zawód niezadowol* niestety przykr* szkoda żal* zal smutn* zdenerw*
denerw* wkurz* irytuj* złoś* frustr* wściek* nienawidz* brzydk* brud* śmierd* smierd* syf zepsut* zepsuł* zepsul*
psuj* uszkodz* zniszcz* połam* polam* pęknię* pekn* rozbit* rozdart* zgniec* zgniot* mokr* wad* wadliw* usterk* awari*
błęd* błąd* bled* blad* problem* kłopot* klopot* trudn* ciężk* ciezk* skomplik* niejasn* nieczyteln* chaos* bałagan*
balagan* zawiesz* zacin* wiesza* wysyp* odrzuc* odmów* odmaw* odmow* anul* zgub* zagin* brak* brakuj* niekomplet*
niepełn* pomył* pomyl* niewłaściw* niewlasciw* niezgodn* inny inna inne opóźn* opozn* spóźn* spozn* późno pozno wolno
woln* powoln* długo dlugo czekam czeka* czekan* kolejk* drog* drożej drozej drogo przepłac* przeplac* zawyżon*
zawyzon* zdzier* wyłudz* oszu* oszuk* kłam* klam* nieuczciw* naciąg* niemił* niemil* niegrzeczn* nieuprzejm* chamsk*
cham arogan* ignor* niekompeten* nieprofesjon* olew* zlew* lekceważ* lekcewaz* niewygod* ciasn* hałas* halas* głośn*
glosn* zimn* nieśwież* niesmacz* ohydn* obrzydl* paskudn* śmieć* śmiec* badziew* tandet* szajs dziadost* bezużytecz*
bezuzytecz* niepotrzebn* strata straci* zmarnow* odradzam unikać unikajcie rezygn* zrezygn* reklamac* skarg* skarż*
zażalen* nigdy nikt nic żadn* zadn* przestał* przestal* niemożliw* niemozliw* nieporozum* znika* zniknę* połap*
zamiesz* wieki zapomn* niebezpiecz* pogorsz* gorzk* nudn* niedział* niesprawn* minimaln*
""",
    "ru": """
плох* хуж* худш* ужас* кошмар* отврат* отстой отстойн* мерзк* жутк* безобраз* позор* стыд* возмут* возмущ* недопустим*
неприемлем* разочаров* недовол* неудовлетвор* жаль сожален* печаль* грустн* обидн* обид* злит* злой зл* бесит раздраж*
достал* надоел* ненавиж* неприятн* некрасив* гряз* вонь воня* пыльн* мусор* сломал* слома* сломан* поломк* ломает*
порван* рван* разбит* треснул* трещин* помят* мокр* поврежд* испорч* портит* брак браков* бракован* дефект* неисправн*
ошибк* сбой сбои глюк* баг баги виснет завис* зависает тормоз* вылет* крах* проблем* трудн* сложн* тяжел* тяжёл*
запутан* непонятн* путан* бардак хаос* отказ* отклон* отмен* потер* утер* пропал* пропаж* исчез* отсутств* нехват*
неполн* неправильн* неверн* перепут* опозд* опазд* задерж* поздно долго медлен* ждать жду ждал* ждём ждем
ожидан* очеред* дорого дорогой дорогая дорогие дорож* дороговат* завышен* переплат* обман* обманул* мошен* развод
враньё вранье врут врёт лож* лгут нечестн* груб* хам* хамств* невежлив* равнодуш* безразлич* игнор* некомпетент*
непрофессион* халатн* наплевать неудобн* тесн* шумн* шум громк* холодн* невкусн* несвеж* тухл* гадост* дрянь ерунда
фигн* бесполезн* зря впустую потеря потрат* невозможн* никогда никто ничего никак жалоб* жалу* претенз* дозвон*
молчат отвечают кончил* пустой пуст* скудн* бедн* слаб* мал* мало минимальн* опасн* скучн* старый стар*
уныл* посредствен* хамит избегайте откажусь отказал* прекратил* мука мучен* нервн* нервы замуч* тщетно надувательств*
""",
}
_NOT = {
    "en": "not no never without neither nor hardly barely cannot don't doesn't didn't isn't wasn't aren't weren't won't"
    " can't"
    " couldn't wouldn't shouldn't hasn't haven't hadn't ain't dont doesnt didnt isnt wasnt wont cant couldnt",
    "pl": "nie bez nigdy ani żaden żadnych żadnego żadnej żadna żadne zadnych zadnego zadnej",
    "ru": "не без нет ни никогда нельзя никаких никакого никакой",
}
#: What tells the languages of the Latin script apart.
_SMALL = {
    "en": "the a an and of to is was are were it in on for with my i we they you this that at be have had but by our",
    "pl": "i w na z się sie to jest nie że ze do po za o od jak ale co był była było są sa dla przez już mi tak czy",
}
# A comma or a full stop ends what a negation reaches.
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*|[.,;:!?]")
_CYRILLIC = re.compile("[а-яё]")
_REACH = 3


class _Words(NamedTuple):
    whole: dict[str, int]
    stems: dict[str, int]
    negations: frozenset[str]


@cache
def _read(language: str) -> _Words:
    whole: dict[str, int] = {}
    stems: dict[str, int] = {}
    for words, sign in ((_GOOD[language], 1), (_BAD[language], -1)):
        for word in words.split():
            (stems if word.endswith("*") else whole)[word.rstrip("*")] = sign
    return _Words(whole, stems, frozenset(_NOT[language].split()))


def _weigh(words: list[str], language: str) -> tuple[int, int]:
    """How many words praise, and how many complain?"""
    whole, stems, negations = _read(language)
    found = [0, 0]
    since = _REACH + 1
    for word in words:
        if word in negations:
            since = 0
        elif not word[0].isalpha():
            since = _REACH
        sign = whole.get(word) or _find_stem(word, stems)
        if sign:
            # A word that is itself the negation ("never", "cannot") does not turn itself around.
            found[(sign > 0) == (0 < since <= _REACH)] += 1
        since += 1
    return found[0], found[1]


def _find_stem(word: str, stems: dict[str, int]) -> int:
    """The longest stem that the word begins with decides."""
    return next((stems[word[:end]] for end in range(len(word), 2, -1) if word[:end] in stems), 0)


def weigh_words(text: str) -> float | None:
    """Do the words of this text praise (up to 1) or complain (down to -1)? None where no word of it is known.

    Examples
    --------
    >>> weigh_words("Great service, no problems."), weigh_words("Płatność nie działa"), weigh_words("Xyzzy")
    (0.6666666666666666, -0.5, None)
    """
    words = _WORD.findall(text.casefold().replace("’", "'"))
    if _CYRILLIC.search(text.casefold()):
        good, bad = _weigh(words, "ru")
    else:
        counts = {language: _weigh(words, language) for language in _SMALL}
        hits = {language: sum(counts[language]) + _count_small(words, language) for language in _SMALL}
        good, bad = counts["pl" if hits["pl"] > hits["en"] else "en"]
    return (good - bad) / (good + bad + 1) if good + bad else None


def _count_small(words: list[str], language: str) -> int:
    return sum(word in _read_small(language) for word in words)


@cache
def _read_small(language: str) -> frozenset[str]:
    return frozenset(_SMALL[language].split())
