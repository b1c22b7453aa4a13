"""What the customers of the demo shop say: survey comments and complaints in English, Polish and Russian.

`TEXTS[language][mood]` is a tuple of sentences. The moods are good (score 9-10), fair (7-8), bad (0-6), payment (a
payment that failed, in surveys and complaints alike) and complaint. All of it was written for this demo; no real
person said any of it.
"""

from __future__ import annotations

TEXTS: dict[str, dict[str, tuple[str, ...]]] = {
    "pl": {
        "good": (
            "Wszystko super, paczka była po dwóch dniach.",
            "Bardzo szybka dostawa i świetne ceny.",
            "Polecam, zakupy bez żadnych problemów.",
            "Miła obsługa, na pewno wrócę.",
            "Łatwo znaleźć to, czego się szuka.",
            "Najlepszy sklep w tej kategorii, duży wybór.",
            "Jakość lepsza niż na zdjęciach!",
            "Zwrot załatwiony od ręki, dziękuję.",
            "Opinie innych klientów bardzo pomogły w wyborze.",
        ),
        "fair": (
            "W porządku, ale dostawa mogłaby być tańsza.",
            "Ogólnie dobrze, trochę długo czekałam na paczkę.",
            "Wyszukiwarka pokazuje za dużo niepasujących produktów.",
            "Dobre ceny, karton był trochę zgnieciony.",
            "Brakuje dokładniejszych opisów rozmiarów.",
            "Poprawnie, bez zachwytu.",
        ),
        "bad": (
            "Paczka spóźniona o tydzień, nikt nie odpisuje na maile.",
            "Produkt zupełnie inny niż na zdjęciu.",
            "Na infolinii czekanie trwa wieki.",
            "Trudno się połapać na stronie, za dużo reklam.",
            "Ceny wyższe niż u konkurencji, rozczarowanie.",
            "Zwrot pieniędzy trwa już trzeci tydzień.",
            "Kod rabatowy nie działa, choć miał być ważny.",
        ),
        "payment": (
            "Nie da się zapłacić w aplikacji, płatność ciągle odrzucana.",
            "Trzy razy błąd płatności, w końcu zrezygnowałem.",
            "Aplikacja zawiesza się przy płatności BLIK.",
            "Po wybraniu karty tylko „błąd płatności” i koniec.",
            "Płatność nie przeszła, a koszyk się wyczyścił.",
            "Chciałam kupić, ale płatność nie działa. Kupiłam gdzie indziej.",
        ),
        "complaint": (
            "Zamówienie przyszło niekompletne, proszę o pilny kontakt.",
            "Kurier zostawił paczkę pod drzwiami, karton był mokry.",
            "Produkt przestał działać po dwóch dniach.",
            "Dostałam zły rozmiar, a wymiany nie ma.",
            "Czekam na zamówienie od dwóch tygodni.",
            "Na paragonie inna cena niż na półce.",
        ),
    },
    "en": {
        "good": (
            "Great service, it arrived two days early.",
            "Easy to find what I wanted, fast delivery.",
            "Love this shop, good prices and a huge choice.",
            "Smooth from start to finish.",
            "The reviews helped me pick the right one.",
            "Friendly staff who know what they sell.",
            "Returned one item, refund came the same week. Thank you!",
            "Better quality than the pictures suggest.",
        ),
        "fair": (
            "Fine overall, delivery could be cheaper.",
            "Good choice, but the search is a bit clumsy.",
            "Okay. It took a day longer than promised.",
            "Decent prices, the box was slightly damaged.",
            "Does the job, size charts could be clearer.",
            "Nothing special, nothing wrong.",
        ),
        "bad": (
            "Parcel a week late and nobody answers my emails.",
            "It looks nothing like the picture.",
            "Waited forty minutes on the phone line.",
            "The site is confusing, too many banners.",
            "Still waiting for my refund after three weeks.",
            "The discount code did not work.",
            "Overpriced, found it cheaper next door.",
        ),
        "payment": (
            "Could not pay in the app, the card was refused again and again.",
            "Payment failed three times, I gave up.",
            "The app freezes on the payment screen.",
            "Error at payment and my basket was gone.",
            "I wanted to buy but the payment does not work. Bought it elsewhere.",
            "Payment error, no explanation, no help.",
        ),
        "complaint": (
            "Two items are missing from my order, please call me back.",
            "The courier left the parcel in the rain.",
            "It stopped working after two days.",
            "I was sent the wrong size and cannot exchange it.",
            "My order has not moved for two weeks.",
            "I was charged more than the price on the shelf.",
        ),
    },
    "ru": {
        "good": (
            "Всё отлично, посылка пришла раньше срока.",
            "Быстрая доставка и хорошие цены.",
            "Очень удобно искать товары, рекомендую.",
            "Вежливый персонал, обязательно вернусь.",
            "Большой выбор, качество лучше, чем на фото!",
            "Возврат оформили сразу, спасибо.",
            "Отзывы помогли выбрать нужную модель.",
        ),
        "fair": (
            "В целом нормально, но доставка дороговата.",
            "Неплохо, посылку ждали чуть дольше обещанного.",
            "Цены хорошие, коробка была помята.",
            "Не хватает подробной таблицы размеров.",
            "Обычный магазин, ничего особенного.",
        ),
        "bad": (
            "Посылка опоздала на неделю, на письма не отвечают.",
            "Товар совсем не такой, как на картинке.",
            "Невозможно дозвониться до поддержки.",
            "Сайт запутанный, слишком много рекламы.",
            "Уже третью неделю жду возврата денег.",
            "Промокод не сработал, очень жаль.",
        ),
        "payment": (
            "В приложении невозможно оплатить, всё время ошибка.",
            "Оплата не прошла три раза, больше не буду пробовать.",
            "Приложение зависает на экране оплаты.",
            "После ошибки оплаты корзина исчезла.",
            "Хотели купить, но оплата не работает.",
        ),
        "complaint": (
            "В заказе не хватает двух товаров, перезвоните мне.",
            "Курьер оставил посылку под дождём.",
            "Товар сломался через два дня.",
            "Прислали не тот размер, обмена нет.",
            "Заказ не движется уже две недели.",
        ),
    },
}
