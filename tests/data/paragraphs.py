"""A paragraph in each language that recipes name, our own but for the Latin, which is Caesar's: a ship waits for the wind."""

TEXTS = {
    "en": "The ship was in the harbour for a week, and the men that had to work on it were tired of the cold wind and the "
    "rain. Nobody knew when they would be able to sail, because the storm at sea had not yet passed.",
    "la": "Gallia est omnis divisa in partes tres, quarum unam incolunt Belgae, aliam Aquitani, tertiam qui ipsorum lingua "
    "Celtae appellantur. Hi omnes lingua, institutis, legibus inter se differunt; nec iam ex his quod sunt atque cum his "
    "ad bellum ibant.",
    "it": "La nave era nel porto da una settimana e gli uomini che dovevano lavorare erano stanchi del vento freddo e della "
    "pioggia. Nessuno sapeva quando sarebbero partiti, ma al mattino il mare non era come il giorno prima e per questo "
    "si aspettava.",
    "fr": "Le navire était dans le port depuis une semaine et les hommes qui devaient travailler sur le pont étaient fatigués "
    "du vent et de la pluie. Personne ne savait quand il serait possible de partir, car la tempête en mer ne se calmait "
    "pas pour cette nuit.",
    "de": "Das Schiff lag seit einer Woche im Hafen, und die Männer, die auf ihm arbeiten mussten, waren müde von dem kalten "
    "Wind und dem Regen. Niemand wusste, wann sie in See stechen würden, denn der Sturm war nicht vorüber, und es ist "
    "für alle zu kalt.",
    "es": "El barco estaba en el puerto desde hacía una semana y los hombres que debían trabajar en la cubierta se cansaban "
    "del viento y de la lluvia. Nadie sabía cuándo se podría salir, porque la tormenta no había pasado y el mar era como "
    "un muro para ellos.",
    "pt": "O navio estava no porto há uma semana e os homens que deviam trabalhar em cima do convés estavam cansados do vento "
    "e da chuva. Ninguém sabia quando se poderia partir, mas o mar não era mais o mesmo, e por isso foi preciso esperar "
    "com uma vela.",
    "nl": "Het schip lag al een week in de haven en de mannen die aan boord werkten waren moe van de koude wind en het natte "
    "weer. Niemand wist wanneer zij zouden vertrekken, maar er werd ook niet gevraagd, want dat had voor de kapitein "
    "geen nut.",
    "ja": "この船は一週間のあいだ港にとまっていました。船で働く人たちは冷たい風と雨のために疲れていましたが、いつ出発できるのか"
    "はだれにも分かりませんでした。嵐がまだ過ぎていなかったからです。",
    "zh": "这条船已经在港口停了一个星期，在船上工作的人因为冷风和雨水都非常疲倦。没有人知道他们什么时候可以开船，因为海上的风暴"
    "还没有过去，所以他们只能等待。村里的人每天都会带来一些面包和热汤，但是大家还是希望早一点回家，因为家里的孩子们也在等"
    "着自己的父亲。",
    "ko": "그 배는 일주일 동안 항구에 있었고, 배에서 일하는 사람들은 차가운 바람과 비 때문에 지쳐 있었다. 언제 떠날 수 있는지 "
    "아무도 알지 못했다. 바다의 폭풍이 아직 지나가지 않았기 때문이다. 그래서 사람들은 항구에서 기다리기로 하였다.",
    "ar": "كانت السفينة في الميناء منذ أسبوع، وكان الرجال الذين يعملون عليها متعبين من الريح الباردة والمطر. لم يكن أحد يعرف "
    "متى يمكن أن تبحر، لأن العاصفة في البحر لم تنته بعد، ولذلك كان على الجميع أن ينتظروا في المدينة.",
    "cs": "Loď byla v přístavu už týden a muži, kteří na ní museli pracovat, byli unavení ze studeného větru a deště. Nikdo "
    "nevěděl, kdy bude možné vyplout, protože bouře na moři ještě neskončila, a tak jim nezbylo nic jiného než čekat.",
}
