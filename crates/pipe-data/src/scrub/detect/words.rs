//! Lists: surnames, characters of given names, street words, top-level domains.

use std::sync::LazyLock;

use super::sets::{CharSet, WordSet};

/// Top-level domains that are also words stand for a domain only with a path behind them.
pub(super) static WORDLIKE: LazyLock<WordSet> = LazyLock::new(|| {
    WordSet::new(
        "me|it|is|to|in|no|so|at|be|my|us|am|by|im|as|do|he|id|la|ma|pa|hi|one|now|live|life|fun|love|today|news|world|work|team|\
         best|top|pro|name|how|page|link|games|media|social|email|cash|store|blog|space|win|vip|ms|py|rs|sh|md|pl|ps|so|ts|cc|tv",
    )
});

/// Top-level domains that no two words of a text make by meeting at a full stop.
pub(super) static TOP_LEVEL: LazyLock<WordSet> = LazyLock::new(|| {
    WordSet::new(
        "com|org|net|edu|gov|mil|int|info|biz|io|co|ly|tv|fm|gl|gd|cc|uk|de|fr|cn|ru|jp|eu|ca|au|nl|se|ch|es|pl|br|kr|hk|tw|sg|\
         nz|ie|fi|dk|cz|gr|hu|pt|app|dev|xyz|online|site|shop|club|ai|ro|bg|hr|si|sk|lt|lv|ee|ua|by|kz|tr|il|ir|pk|bd|lk|vn|th|\
         ph|mx|cl|pe|ve|uy|ec|cr|ng|ke|gh|eg|tn|dz|lu|mt|cy|mk|ba|tech|cloud|website|wiki|icu|ltd|中国|mobi|museum|aero|coop|jobs|\
         travel|onion|arpa|asia|cat",
    )
});

/// Common Chinese surnames of one character, simplified and traditional.
pub(super) static SURNAMES: LazyLock<CharSet> = LazyLock::new(|| {
    CharSet::new(
        "傅王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤常温康施文牛樊葛邢安齐易乔伍庞颜倪庄聂章鲁岳翟殷詹申欧耿关兰焦俞左柳甘祝包宁尚符舒阮柯纪梅童凌毕单季裴霍涂成苗谷盛曲翁冉骆蓝路游辛靳欧管柴蒙鲍华喻祁蒲房滕屈饶解牟艾尤阳时穆农司卓古吉缪简车项连芦麦褚娄窦戚岑景党宫费卜冷晏席卫米柏宗瞿桂全佟应臧闵苟邬边卞姬师和仇栾隋商刁沙荣巫寇桑郎甄丛仲虞敖巩明佘池查麻苑迟邝官封谈匡鞠惠荆乐冀郁胥南班储原栗燕楚鄢劳谌奚皮粟冼蔺楼盘满闻位厉伊仝区郜海阚花权强帅屠豆朴盖练廉禹井祖漆巴丰支卿国狄平计索宣晋相初门云容敬来扈晁芮都普阙浦戈伏鹿薄邸雍辜羊阿乌母裘亓修邰赫杭况那宿鲜印逯隆茹诺战慕危玉银亢嵇公哈湛宾戎勾茅利於呼居揭干但尉冶斯元束檀衣信展阴昝智幸奉植衡富尧闭由張劉陳楊黃趙吳孫馬羅鄭謝許韓馮鄧蕭葉蘇呂盧鐘鍾譚陸賈韋鄒鄔嚴龔錢湯",
    )
});

/// Surnames that are as often a word of another meaning: never believed without a given name behind them.
pub(super) static WORDY_SURNAMES: LazyLock<CharSet> = LazyLock::new(|| {
    CharSet::new(
        "于向成和时应明全平来都那公利但由信相初国位满南原元居干海花强盖区单解关高白方常安连文万马石金江水路车游古农管商师班官强从于计门阳何华边党原支井豆母任修但战荣房谢展苗",
    )
});

/// Double surnames.
pub(super) static DOUBLE_SURNAMES: LazyLock<WordSet> = LazyLock::new(|| {
    WordSet::new(
        "欧阳|司马|上官|诸葛|皇甫|令狐|慕容|东方|西门|夏侯|尉迟|公孙|长孙|司徒|司空|端木|独孤|南宫|闻人|轩辕|淳于|单于|太史|宇文|鲜于|闾丘|东郭|百里|呼延|拓跋|歐陽|司馬|諸葛",
    )
});

/// Characters of given names.
pub(super) static GIVEN: LazyLock<CharSet> = LazyLock::new(|| {
    CharSet::new(
        "三四五伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华玉兰文国建志海波斌宇浩凯俊峰龙飞鹏辉健旭鑫博晨阳泽子梓轩涵萱怡欣雨诗琪佳嘉思梦雪婷颖倩琳莹慧晶洁燕红梅丹萍玲芬桃菊凤春夏秋冬晓小大一天宏洪鸿弘立力利林森木楠柳松柏桐树生成诚城程承德福富贵荣耀光亮星月云雷电山川江河湖海源泉清澄润泽沐沛瑞祥吉庆喜悦乐康安宁静和睦仁义礼智信忠孝廉勤俭学书墨翰卿彦哲贤良才俊豪杰英雄振兴旺盛昌隆盈丰裕朋友永恒长久远达通顺利胜捷武威猛刚毅坚定正直方圆中东南西北金银铜铁石玉珠宝琴瑶瑾瑜璐琼瑛珍珊珂珏玥玮琦琛琰瑄璇璟莉莎茜茹荷莲菲蕾薇芸芝芷若兰蓉蓓葵蔓薰香馨美媛嫣妍娇娥婉妮姗姝娅媚如意心念恩爱情怀志远晗昊昕昱昀晔晖暄曦曼朗朝启开元凡帆帅帝君尧舜禹汉唐宋明清辰龄军民众杨航舟船行舒畅翔飞羽翼鹤鹰燕莺雁凤凰麟骏驰骁腾跃骞奕弈奇祺棋琪其旗祎祯禧禄寿延年岁世代传继绍祖宗家国邦乡卫国强权政治法律存善益均平冰霜露雾霖霏雯霓虹彩丝绸锦绣绮绫纯素洁白青蓝紫彤丹朱赤红橙黄绿雅韵歌声音乐曲艺术诗词文章书画笔墨砚纸典策册之亚亦伊伦佩依倩儒允先克全公兴冠刘力勋升卓南卉又双可史叶名向吟含周咏品哲唯善喻嘉嘉园坤培基堂墨夕多奎好威娴孟季宜宝实宣宸容宾密寅寒尚尹少展岩岚峻崇嵘巍工左巧希常干广庚廷弟彪彬影征微徽思怡恺悠惠愉慕懿成战戎扬抒拓捷振揽攀敦斯新方施旋日时旻易星映昭显晴晋晟景暖曙木本权来果柔栋根格案桦梁梅梓棠楚榕槐欢武毓民水汐汝沁沂泓泊泰洋洛津淇淑淞淼渊渝渲温游湘湛溪滢满滨漫潇澜灵灿炎炜炫炳烁烈烨焕焱煊煜照熙熠燃爽牧特玄王班理甜田甲申白百皓盛相真睿知石砚硕碧磊祥福秉科秋秦积程穆立竹笑筠简箐米粤精素紫絮纬纲维绍缘罡群羿翊翎翠聪肖育胤胜臻自至致航良艺芃芊芙芮花苏苒苑苗若苓英茗茵荃荔荣莘莫菁萌葆葛董蒙蓝蔚蕊藜虎虹融衍裕西言誉许诺谊谦谨豫贝贞贤赛超越跃路轶辛达迅迎运进迪逸道遥邵郁采钊钦钧钰铃铎铭锋锐锡镇镕长门闻阅阿陆陶雄雅雍青非靖静韦韬韶顺颂颜飒首馥骄高魁鲁鸣黎默齐月悦越",
    )
});

/// What follows a name and is no part of it: common function words and verbs.
pub(super) static NOT_GIVEN: LazyLock<CharSet> = LazyLock::new(|| {
    CharSet::new(
        "的了是在有和与及或也都就又还很更最不没别请让给把被将对从到向往为因所由于以用来去出入进回过起上下里外前后这那哪谁什怎么多少几个位名号岁人员者们您你我他她它本该此每各某电话手机联系说道叫做让问答看听想要会能可应需必须先生女士老师小姐经理医院区市省县路街",
    )
});

/// Words that begin with a surname, and are none.
pub(super) static NOT_NAMES: LazyLock<WordSet> = LazyLock::new(|| {
    WordSet::new(
        "韩国|向来|方便|方式|方法|方面|方案|方向|高兴|高级|高中|高度|高端|高铁|高清|高速|高考|高档|白天|白色|白酒|成都|成功|成为|成员|成本|成绩|安全|安排|安装|安静|安徽|安卓|万一|万元|金额|金融|金色|黄金|黄色|\
         黄山|黄河|马上|马路|马来|石油|石头|石家|江苏|江西|江南|江山|林业|唐朝|宋朝|汉朝|华为|华人|华东|华南|华北|张家|时间|时候|时代|时尚|任何|任务|任意|任职|周围|周末|周一|周二|周三|周四|周五|周六|周日|周边|\
         周期|周年|文化|文件|文字|文章|文明|文学|文艺|常见|常用|常常|常州|许多|许可|程序|程度|关于|关系|关注|关键|关闭|单位|单独|单价|单号|单子|全部|全国|全新|全家|全球|全面|平台|平时|平安|平均|平常|平板|明天|\
         明年|明确|明显|明白|明星|强烈|强调|强大|曾经|何时|何况|何必|和平|和谐|向上|包括|包装|包含|包裹|包邮|包间|国家|国际|国内|国产|海外|海南|海鲜|海底|海报|云南|花园|花钱|游戏|游泳|游客|温度|温馨|温州|温泉|\
         车辆|车位|车站|车主|连接|连续|连锁|农村|农业|阳光|阳台|阳历|路上|路边|路由|路线|管理|管家|应该|应用|应当|师傅|和他|房间|房子|房东|房价|房产|计算|计划|支持|支付|支行|利用|利息|相关|相当|相对|相信|信息|\
         信用|信任|信号|来自|公司|公安|公园|公里|公交|公共|公开|公告|区域|原来|原因|原告|原价|满意|满足|那些|那个|都是|位置|位于|元旦|元素|南京|南方|南昌|南宁|景区|景点|司机|司法|段时|段落|代码|申请|申报|章节|\
         项目|项链|姓名|简单|简介|简历|简直|季节|季度|易于|汤圆|纪念|记录|商品|商家|商业|商务|商城|商户|商店|古代|古典|古老|盛大|水果|水平|叶子|梅花|武汉|武器|武术|康复|苏州|杭州|郑州|徐州|湖南|福建|贵州|甘肃|\
         宁波|宁夏|青岛|青年|青春|严重|严格|毛病|毛衣|冷静|冷气|干净|干部|官方|官网|帅哥|封面|印象|印刷|初级|初中|经理|容易|谈话|麻烦|查询|查看|边上|边境|党员|费用|解决|解释|解放|尚未|左右|左边|东西|东方|上海|\
         钱包|钱财|党组|党委|党的|乐园|乐趣|喻为|范围|贺卡|贺词|戴上|丁香|邮箱|邮件|沈阳|石材|魏晋|夏天|夏季|秋天|冬天|春天|莫名|谷歌|杜绝|牛奶|牛肉|牛逼|龙头|龙虾|熊猫|毕业|毕竟|柴油|蓝色|蓝牙|蓝天|全体|全职|\
         常务|高管|高层|高校|高手|高新|高龄|高低|高价|高性|游玩|海关|海洋|海拔|文科|文件|文员|路人|路口|和睦|向导|平民|商人|查房|车间|车票|车型|车友|官员|居民|居然|居住|农民|军人|巴士|巴黎|伊朗|古人|老师|阿姨|\
         阿里|花费|花样|贾宝|卫生|卫星|戚友|亲戚|梁山|明朝|金属|金牌|金钱|金价|金星|江湖|胡同|胡说|胡乱|胡子|余额|余下|余地|余款|史上|史诗|孔子|孟子|孙子|庄子|老子|雷锋|雷达|雷雨|童年|童话|康熙|乾隆|白领|白银|\
         白宫|强制|强势|强行|姜汤|米饭|米粉|米线|丰富|丰田|丰满|从事|从来|祝福|祝你|祝愿|祝贺|顾客|顾问|顾虑|柳州|沙发|沙滩|沙漠",
    )
});

/// Before a number and its street: words of thoroughfares in English, with a stop or without.
pub(super) static STREETS: LazyLock<WordSet> = LazyLock::new(|| {
    WordSet::new(
        "street|st|avenue|ave|av|road|rd|lane|ln|drive|dr|boulevard|blvd|way|court|ct|place|pl|terrace|ter|square|sq|parkway|\
         pkwy|highway|hwy|circle|cir|trail|trl|close|crescent|cres|gardens|gdns|grove|hill|mews|row|walk|alley|plaza|turnpike|\
         pike|path|loop|ridge|run|park|quay|wharf|esplanade|expressway|freeway|broadway|creek|parade|junction|crossing|manor|\
         meadows|heights|springs|valley|village|vista|view|mountain|mount|island|isle|lake|landing|ferry|bridge|branch|brook|\
         canyon|cape|causeway|center|centre|cliff|club|common|corner|course|cove|curve|dale|dam|divide|estate|estates|extension|\
         falls|field|fields|flat|flats|ford|forest|forge|fork|fort|garden|gateway|glen|green|harbor|harbour|haven|hills|hollow|\
         inlet|key|knoll|knolls|lakes|locks|lodge|mall|meadow|mill|mills|mission|motorway|neck|orchard|oval|pass|passage|pine|\
         pines|plain|plains|point|points|port|prairie|radial|ramp|ranch|rapid|rapids|rest|river|roads|route|rue|shoal|shore|\
         shores|skyway|spring|spur|spurs|station|stravenue|stream|streets|summit|throughway|trace|track|trafficway|tunnel|\
         underpass|union|unions|viaduct|villages|ville|wall|walks|ways|well|wells",
    )
});

/// Those of [`STREETS`] that are hardly ever anything else: alone they make an address of a number and one capital word.
pub(super) static CERTAIN_STREETS: LazyLock<WordSet> = LazyLock::new(|| {
    WordSet::new(
        "street|st|avenue|ave|road|rd|lane|ln|drive|dr|boulevard|blvd|court|ct|terrace|parkway|pkwy|highway|hwy|crescent|plaza|\
         way|place|pl|square|circle|close|gardens|grove|mews|trail|walk|hill",
    )
});

/// Words that begin the name of a street in other languages; the number stands before or behind.
pub(super) const STREET_BEGINNING_WORDS: &str = "rue|avenue|boulevard|allée|chemin|impasse|via|viale|piazza|corso|strada|largo|calle|avenida|avda|paseo|camino|camiño|\
     carrera|rua|travessa|praça|estrada|ul|ulica|ulice|aleja|plac|trg|rúa|rambla|carrer|vicolo|quai|улица|ул|jl|jalan|calea|\
     bulevardul|cesta|náměstí|třída|utca|λεωφ|οδός";

pub(super) static STREET_BEGINNINGS: LazyLock<WordSet> = LazyLock::new(|| WordSet::new(STREET_BEGINNING_WORDS));

/// Endings of street names in German, Dutch and the Nordic languages; the number stands behind.
pub(super) const STREET_ENDINGS: &[&str] = &[
    "straße", "strasse", "stasse", "weg", "gasse", "platz", "allee", "ufer", "laan", "straat", "plein", "gracht", "steenweg", "dreef", "singel",
    "gatan", "gata", "vägen", "gränd", "vej", "vejen", "gade", "gaden", "allé", "veien", "katu", "kuja", "polku", "utca", "körút", "stræde",
    "torget", "stien", "bakken", "brücke", "chaussee", "steig", "pfad", "gürtel", "lände",
];

/// Titles before a name, without their stop, in lower case.
pub(super) static TITLES: LazyLock<WordSet> = LazyLock::new(|| {
    WordSet::new(
        "mr|mrs|ms|miss|mx|dr|prof|professor|doctor|sir|madam|mme|mlle|herr|frau|señor|señora|signor|signora|monsieur|madame|rev|\
         reverend|father|capt|captain|sgt|sergeant|lt|col|colonel|gen|judge|hon|sra|doña|mister|officer|detective|nurse|dear",
    )
});

/// Given names of English-speaking countries, for the strict search.
pub(super) static ENGLISH_GIVEN: LazyLock<WordSet> = LazyLock::new(|| {
    WordSet::new(
        "aaron|abigail|adam|alan|albert|alex|alexander|alexandra|alexis|alice|alicia|allison|alyssa|amanda|amber|amelia|amy|\
         andrea|andrew|angela|ann|anna|anne|anthony|arthur|ashley|austin|barbara|benjamin|beth|betty|beverly|billy|bob|bobby|\
         bradley|brandon|brenda|brian|brittany|bruce|bryan|carl|carol|caroline|carolyn|catherine|charles|charlotte|cheryl|chris|\
         christian|christina|christine|christopher|cindy|claire|craig|crystal|cynthia|daniel|danielle|david|dawn|deborah|debra|\
         denise|dennis|derek|diana|diane|donald|donna|dorothy|douglas|dylan|edward|elaine|eleanor|elizabeth|ella|emily|emma|eric|\
         erica|erik|erin|ethan|eugene|evelyn|fiona|frances|frank|fred|gabriel|gary|george|gerald|gloria|grace|graham|greg|\
         gregory|hannah|harold|harry|heather|helen|henry|holly|howard|ian|isabella|jack|jacob|jacqueline|james|jamie|jane|janet|\
         janice|jason|jean|jeff|jeffrey|jennifer|jeremy|jerry|jesse|jessica|jill|jim|joan|joe|joel|john|johnny|jonathan|jordan|\
         jose|joseph|joshua|joyce|juan|judith|judy|julia|julie|justin|karen|karl|katherine|kathleen|kathryn|kathy|katie|kayla|\
         keith|kelly|kenneth|kevin|kim|kimberly|kyle|larry|laura|lauren|lawrence|leah|lee|leo|leslie|linda|lisa|logan|louis|\
         lucas|lucy|luke|lynn|madison|marcus|margaret|maria|marie|marilyn|martha|martin|mary|matthew|megan|melissa|michael|\
         michelle|mike|nancy|natalie|nathan|nicholas|nicole|noah|olivia|oscar|pamela|patricia|patrick|paul|paula|peter|philip|\
         phillip|phyllis|rachel|ralph|randy|raymond|rebecca|richard|robert|robin|roger|ronald|rose|roy|russell|ruth|ryan|sam|\
         samantha|samuel|sandra|sara|sarah|scott|sean|sharon|shirley|simon|sophia|sophie|stephanie|stephen|steve|steven|stuart|\
         sue|susan|suzanne|tamara|tammy|tara|taylor|teresa|terry|theresa|thomas|tiffany|tim|timothy|tina|todd|tom|tony|tracy|\
         tyler|valerie|vanessa|victor|victoria|vincent|virginia|walter|wayne|wendy|william|zachary|zoe",
    )
});

/// Capital words that begin no name behind `is`, `am` and the like.
pub(super) static NOT_ENGLISH_NAMES: LazyLock<WordSet> = LazyLock::new(|| {
    WordSet::new(
        "the|a|an|i|it|is|and|or|but|if|in|on|at|to|for|of|this|that|these|those|we|you|he|she|they|my|your|his|her|our|their|\
         not|no|yes|ok|what|who|how|why|when|where|all|any|some|please|thanks|thank|sir|madam|team|customer|customers|friend|\
         friends|everyone|god|lord|monday|tuesday|wednesday|thursday|friday|saturday|sunday|january|february|march|april|may|\
         june|july|august|september|october|november|december|english|american|chinese|twitter|facebook|hr|it|sales|support|none|\
         null|true|false|unknown|test|number|street|road|phone|email|address|name|date|id|ssn|dob|card|account",
    )
});
