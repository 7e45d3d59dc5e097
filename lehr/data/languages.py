"""The commonest words of languages: Gopher's stop words, and what tells a text from random letters of its script.

A list has a language's commonest function words, without case, and without words of one letter, which random letters have too. In
scripts without blanks, and in Korean, whose particles are endings, they are looked for inside the text.
"""

from __future__ import annotations

import re

# Dialects that py3langid tells from a language, and that count as it.
DIALECTS = {"ary": "ar", "arz": "ar", "wuu": "zh", "yue": "zh", "uzs": "uz", "nb": "no"}

GOPHER = "the be to of and that have with".split()  # Gopher's eight, for its rule in English
_WORDS = {
    "en": "the of and to in is that it for was with as his he on be at by this had not are but from or have an they which one "
    "you were her all she there would their we him been has when who will more no if out so said what up its about into than "
    "them can only other new some could these two may then do first any my now such like our over me even most after also "
    "did many must thou thy your",
    "la": "et ad cum ut qui quae quod sed nec ab ex si te atque haec nunc hic sunt iam esse aut quam mihi tibi inter quoque est "
    "in non per de se me ac ne hoc eius esset erat enim etiam quo quidem autem ita ille sic nam eo ubi pro sine eum quem id",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat dass "
    "daß sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor zur bis mehr durch "
    "man sein wurde sei hatte kann gegen vom können schon wenn habe seine mark ihre dann unter wir soll ich eines diese "
    "dieser wieder keine uhr seiner worden will zwischen ihr",
    "es": "de la que el en los del se las por un para con no una su al lo como más pero sus le ya este sí porque esta entre "
    "cuando muy sin sobre también me hasta hay donde quien desde todo nos durante todos uno les ni contra otros ese eso ante "
    "ellos esto antes algunos qué unos otro otras otra él tanto esa estos mucho cada es son ser puede está si fue han",
    "fr": "de la le et les des en un du une que est pour qui dans par plus pas au sur ne se ce il sont la avec son ou aux mais "
    "comme cette être on ont été ses leur sa nous vous ces tout fait si entre même elle sans peut deux après bien dont très "
    "aussi je tous où avait cela encore leurs autre sous puis votre était ils lui donc lors afin",
    "it": "di che la il un per in una non si del con le da della al come dei nel più alla gli dal nella ma delle anche sono ha "
    "sul questo lo se ad o degli ed quando dalla tra essere può alle questa ai loro sua suo tutti delle stato quella chi "
    "dopo senza è su ogni cui ancora molto fra solo prima oppure sia dell nell poi tutto i sulle hanno era",
    "pt": "de que do da em para um com não uma os no se na por mais as dos como mas foi ao ele das tem à seu sua ou ser quando "
    "muito há nos já está eu também só pelo pela até isso ela entre era depois sem mesmo aos ter seus quem nas me esse eles "
    "estão você tinha foram essa num nem suas meu às minha são este esta pode cada outros",
    "nl": "de van het een en in dat niet te op aan met voor zijn is er maar om dan ook naar bij uit werd worden die als door "
    "of was ze zich hij tot over aan zij nog wordt kan deze heeft hebben dit kunnen zal wel geen moet meer ik je al onder "
    "hun wat deze na haar wij andere had waar zo nu dus zou veel welke alleen",
    "cs": "se na je že to do jsem by ve si ale po jak za ze co tak jeho pro od byl jsou jako nebo který která které už být když "
    "při jen má bylo ho není jeho až jejich také či pak může aby podle než této toho tento pokud mezi nad jej tím těchto "
    "bude lze tedy však jsme ke další více jeden byla pod před",
    "ar": "في من على إلى أن هذا هذه التي الذي ما لا أو مع عن كل كما هو هي بعد بين كان كانت قد لم إن ذلك تلك عند حتى ثم أي لكن "
    "إذا غير أكثر يمكن به بها له لها فيها فيه منها بعض هناك قبل مثل ولا وفي ومن الى ان تم حيث خلال أيضا أيضاً هنا لقد عندما",
    "ca": "de la que el en els les del un per amb no una és al es als com més però si o ha ser aquest aquesta són pel dels seu "
    "seva també entre quan sobre hi ho pot fer tot cada altres sense perquè fins després molt ja on això",
    "da": "og det at en den til er som på de med han af for ikke der var et har jeg om vi sig kan men hun eller fra ved så "
    "blev ville skal også efter når være over ud mod under denne dette alle blive hvis",
    "no": "og det at en den til er som på de med han av for ikke der var et har jeg om vi seg kan men eller fra ved så ble vil "
    "skal også etter når være over ut mot under denne dette alle bli hvis du deg din dersom hvor",
    "sv": "och det att en den till är som på de med han av för inte var ett har jag om vi sig kan men eller från vid så blev "
    "ska också efter när vara över ut mot under denna detta alla bli du dig din hur kommer finns",
    "pl": "się nie na to że jest do jak co tak po ale za od był są jako lub który która które już być gdy przy tylko ma było go "
    "jego aż ich także czy może aby niż tego ten jeśli między nad tym tych będzie można więc jednak dla przez oraz ze",
    "sk": "sa na je že to do som by vo si ale po ako za zo čo tak jeho pre od bol sú alebo ktorý ktorá ktoré už byť keď pri len "
    "má bolo ho nie až ich tiež či potom môže aby podľa než tejto toho tento ak medzi nad ním bude však ďalšie",
    "hr": "je se na da su za od do što kao ili koji koja koje ne biti bi iz po ako sa ali to već kada samo može nije uz te ovaj "
    "ova ovo svoje kako još sve između prema zbog bez ima tako treba",
    "ro": "de la și în cu pe nu din care un este să pentru mai sau ca sunt al ale fi dar prin după ce se au fost poate această "
    "acest acesta dacă cum cel cea cele lui lor fără între când toate",
    "hu": "az hogy és nem is egy ez ha csak meg de már mint vagy van volt lehet lesz el ki fel amely ezt azt mert kell még "
    "minden ezek azonban során után között amikor olyan akkor",
    "fi": "ja on ei että se oli hän mutta kun niin tai ovat ole joka voi myös kuin jos sen ne jotka tämä sitä vain olla olisi "
    "jo nyt sekä kanssa mukaan niitä tämän kaikki",
    "id": "yang dan di dari untuk dengan ini pada adalah itu dalam tidak akan ke atau dapat sebagai juga oleh anda bisa karena "
    "lebih telah ada saat jika maka secara seperti kita mereka harus satu tersebut setiap semua kami bahwa",
    "tr": "ve bir bu için ile da de ne olarak çok daha gibi ancak kadar olan her sonra ki ya veya değil bunu en eğer ise "
    "tarafından var olduğu şekilde üzere hem sadece diğer",
    "vi": "và của là có các được cho trong một không những với này người để đã khi từ về như cũng đến bạn sẽ trên thể ra phải "
    "nhiều vào hay nếu bằng tôi cách hơn theo nó chúng hoặc việc sau",
    "ru": "не на что он как это но за по из его то все от так же бы для ее мы вы или если уже до при есть был была было были "
    "чтобы который которые которая также может только более их они этот эта эти под этого можно когда со во об без после "
    "будет вы вам ваш этом",
    "uk": "не на що він як це але за по із його то все від так же би для її ми ви або якщо вже до при був була було були щоб "
    "який які яка також може тільки більше їх вони цей ця ці під цього можна коли та й",
    "bg": "на да се не за от че са по като със или който която които но той това тя ще има бе го му при ги до след само още "
    "бъде към може също така ако този тази тези",
    "el": "και το να του της την τα με για που στο η ο τη είναι σε από των τον στην θα οι τους δεν μια ένα αυτό ή ότι αν σας "
    "μπορεί στη στα πως έχει αλλά κάθε αυτή μας μετά τις όταν όπως πολύ σαν",
    "fa": "و در به از که این را با است برای آن یک خود تا کرد بر هم نیز شود باشد اما شده یا هر می آنها بود شما دارد نمی کند "
    "کنید اگر دو ما همه چه باید توسط های کنند بین وی دیگر",
    "he": "את של על לא הוא זה עם כי גם אם או היא אל אני היה כל אך רק מה יש אין עד כמו לפי הם בין אבל כך אחר כדי",
}
# Looked for inside a text.
_PIECES = {
    "ja": "です ます した して いる ある この その から こと など れる ない という ため では には とし より され また ので もの "
    "よう にな でき する った なっ さん まで だけ どの それ れば ください これ への との とは での について により って ても "
    "ながら だっ なら しま なく ここ あり らの をし れた れて なる のは のに が、 は、 に、 で、 と、",
    "zh": "一个 一個 我们 我們 可以 这个 這個 没有 沒有 他们 他們 使用 如果 或者 以及 需要 因为 因為 但是 其他 这些 這些 通过 "
    "通過 进行 進行 不是 就是 时候 時候 什么 什麼 所有 自己 已经 已經 这样 這樣 为了 為了 其中 由于 由於 所以 一种 一種 "
    "它们 它們 之间 之間 可能 而且 因此 同时 同時 目前 其它 以后 以後 这是 這是 也是 都是 并且 並且 对于 對於 不能 一些 "
    "任何 是一 了一 的是 在这 在這 您的 你的 上的 中的 的人 来说 來說 还是 還是 只有 不同 之后 之後 之前 作为 作為 例如 "
    "我的 他的 她的 有的 这种 這種 那些 那个 那個 都有 不会 不會 也不 也可 并不 並不 会在 會在 不过 不過 甚至 许多 許多 "
    "很多 非常 最后 最後 开始 開始 出现 出現 发现 發現 知道 现在 現在 问题 問題 方式 必须 必須 应该 應該 能够 能夠 还有 "
    "還有 根据 根據 以下 包括 是在 于是 於是 只是 虽然 雖然 然而 不要 出来 出來 起来 起來 怎么 怎麼 还可 還可 是由 "
    "有一 上， 中， 的一 和其 了， 的。 了。",
    "ko": "에서 으로 습니다 합니다 입니다 있는 하는 하고 해서 때문 그리고 있다 하지 에는 부터 까지 이다 니다 한다 된다 것이 것은 "
    "것을 하여 되어 에게 에도 과의 라고 지만 면서 하기 하면 려고 는데 들은 들이 들을 들의 었다 였다 았다 했다 위해 대한 "
    "같은 다른 또는 그러 위한 따라 대해 통해 어야 도록 되는 적인 없는 없다",
    "th": "ที่ การ และ ใน ของ ได้ เป็น ไม่ มี ให้ จะ ว่า กับ จาก นี้ คือ ด้วย หรือ แต่ ซึ่ง โดย ต้อง เพื่อ อยู่ ความ ถ้า เมื่อ",
}
PIECES = {language: re.compile("|".join(map(re.escape, said.split()))) for language, said in _PIECES.items()}
WORDS = {language: frozenset(w for w in said.split() if len(w) > 1) for language, said in _WORDS.items()}
KNOWN = frozenset(WORDS) | frozenset(PIECES)
